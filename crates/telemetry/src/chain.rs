//! An error with its causes as one line.

use std::error::Error;

/// The error's text and those of its causes. A cause that the line already quotes is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    with_causes(error.to_string(), error.source())
}

/// A text followed by a cause and the causes of that, as in [`chain`].
pub fn with_causes(mut text: String, cause: Option<&(dyn Error + 'static)>) -> String {
    for cause in std::iter::successors(cause, |cause| (*cause).source()) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}
