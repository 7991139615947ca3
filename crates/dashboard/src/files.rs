//! Answers as files.

use std::io::{self, Write};

use ftap_query::{Format, QueryError, write};
use hyper::{StatusCode, header};
use serde::Deserialize;

use crate::Dashboard;
use crate::cards::{CardError, answers};
use crate::router::{self, Answer};

/// A file is made in memory before it is sent.
pub(crate) const MAX_FILE_BYTES: usize = 64 << 20;

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FileFormat {
    Csv,
    Json,
    Parquet,
}

impl FileFormat {
    fn format(self) -> Format {
        match self {
            Self::Csv => Format::Csv,
            Self::Json => Format::Json,
            Self::Parquet => Format::Parquet,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Json => "application/x-ndjson",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// The answer of a statement, to be saved by the browser under a name.
pub(crate) async fn file(
    dashboard: &Dashboard,
    sql: String,
    format: FileFormat,
    name: Option<&str>,
) -> Result<Answer, CardError> {
    let answers = answers(dashboard)?;
    let moment = answers.moment().await?;
    let written = answers.spawn(async move {
        let mut file = BoundedFile(Vec::new());
        let answer = moment.engine.query(&sql).await?;
        write(answer, format.format(), None, &mut file).await?;
        Ok::<_, QueryError>(file.0)
    });
    let mut answer = router::text(StatusCode::OK, format.content_type(), written.await?);
    let name = name.map_or_else(String::new, |name| format!("; filename=\"{name}\""));
    if let Ok(attachment) = header::HeaderValue::try_from(format!("attachment{name}")) {
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_DISPOSITION, attachment);
    }
    Ok(answer)
}

/// A file in memory, up to [`MAX_FILE_BYTES`].
struct BoundedFile(Vec<u8>);

impl Write for BoundedFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_FILE_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_is_bounded() {
        let mut file = BoundedFile(Vec::new());
        file.write_all(&vec![0; MAX_FILE_BYTES]).unwrap();
        let error = file.write_all(b"1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    }
}
