//! What the charts of all pages share.
//!
//! A colour that begins with `--` is one of the style sheet's; the script puts in what it is then, so that a
//! chart is right in light and in dark.

use plotly::common::{AxisSide, Line, Mode};
use plotly::layout::{Axis, RangeMode};
use plotly::{Layout, Plot, Scatter};

/// Values, with gaps where one is not known.
pub(crate) type Numbers = Vec<Option<f64>>;

pub(crate) fn line(
    x: Vec<String>,
    y: Numbers,
    name: &str,
    colour: &'static str,
) -> Box<Scatter<String, Option<f64>>> {
    Scatter::new(x, y)
        .mode(Mode::Lines)
        .name(name)
        .line(Line::new().color(colour).width(2.0))
}

/// An axis at the left, from zero.
pub(crate) fn from_zero() -> Layout {
    Layout::new().y_axis(Axis::new().range_mode(RangeMode::ToZero))
}

/// Another one at the right, for traces of `y2`, whose unit is another.
pub(crate) fn two_axes() -> Layout {
    let right = Axis::new().range_mode(RangeMode::ToZero);
    let right = right.overlaying("y").side(AxisSide::Right);
    from_zero().y_axis2(right.show_grid(false))
}

/// For the script, inside of an element, which `<` can't end.
pub(crate) fn figure(plot: &Plot) -> String {
    plot.to_json().replace('<', "\\u003c")
}
