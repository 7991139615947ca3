//! What was measured: a table for people, Markdown, and JSON.

use serde_json::{Map, Value, json};

/// Median and range of one figure over its rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

impl Figure {
    /// `None` without values: what is not known is not shown.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = values[(values.len() - 1) / 2];
        Some(Self {
            median: f64::midpoint(lower, upper),
            least: values[0],
            most: values[values.len() - 1],
        })
    }

    fn text(self, digits: usize) -> String {
        let [median, least, most] =
            [self.median, self.least, self.most].map(|value| format!("{value:.digits$}"));
        if least == most {
            median
        } else {
            format!("{median} ({least}-{most})")
        }
    }
}

/// What a column shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    /// Its name in JSON.
    pub key: &'static str,
    /// Its heading, with the unit.
    pub title: &'static str,
    /// Decimal places.
    pub digits: usize,
}

pub(crate) const fn column(key: &'static str, title: &'static str, digits: usize) -> Column {
    Column { key, title, digits }
}

/// One table.
pub(crate) struct Section {
    pub title: String,
    pub note: &'static str,
    pub columns: &'static [Column],
    pub lines: Vec<Line>,
}

/// A figure for each column.
pub(crate) struct Line {
    pub name: String,
    pub figures: Vec<Option<Figure>>,
}

impl Section {
    /// Heading and lines as text, without the columns of which nothing is known.
    fn cells(&self) -> Vec<Vec<String>> {
        let known = |index: &usize| self.lines.iter().any(|line| line.figures[*index].is_some());
        let columns: Vec<usize> = (0..self.columns.len()).filter(known).collect();
        let mut heading = vec![String::new()];
        heading.extend(columns.iter().map(|at| self.columns[*at].title.to_owned()));
        let mut rows = vec![heading];
        for line in &self.lines {
            let mut row = vec![line.name.clone()];
            row.extend(columns.iter().map(|at| {
                let figure = line.figures[*at];
                figure.map_or_else(String::new, |figure| figure.text(self.columns[*at].digits))
            }));
            rows.push(row);
        }
        rows
    }

    fn json(&self) -> Value {
        let line = |line: &Line| {
            let figures: Map<String, Value> = self
                .columns
                .iter()
                .zip(&line.figures)
                .filter_map(|(column, figure)| {
                    let Figure {
                        median,
                        least,
                        most,
                    } = (*figure)?;
                    let figure = json!({"median": median, "least": least, "most": most});
                    Some((column.key.to_owned(), figure))
                })
                .collect();
            json!({"name": line.name, "figures": figures})
        };
        let lines: Vec<Value> = self.lines.iter().map(line).collect();
        json!({"title": self.title, "note": self.note, "lines": lines})
    }
}

/// Everything that a run of the benchmark has to say.
#[derive(Default)]
pub(crate) struct Report {
    /// Machine, date, commit, command: name and value.
    pub about: Vec<(&'static str, String)>,
    pub sections: Vec<Section>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

impl Report {
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.about {
            out += &format!("{name:<9} {value}\n");
        }
        for section in &self.sections {
            out += &format!("\n{}\n{}\n", section.title, section.note);
            let rows = section.cells();
            let widths: Vec<usize> = (0..rows[0].len())
                .map(|at| rows.iter().map(|row| row[at].chars().count()).max())
                .map(Option::unwrap_or_default)
                .collect();
            for row in rows {
                let mut text = format!("{:<1$}", row[0], widths[0]);
                for (cell, width) in row.iter().zip(&widths).skip(1) {
                    text += &format!("  {cell:>width$}");
                }
                out += text.trim_end();
                out.push('\n');
            }
        }
        if !self.skipped.is_empty() {
            out.push('\n');
        }
        for skipped in &self.skipped {
            out += &format!("skipped: {skipped}\n");
        }
        out
    }

    pub(crate) fn markdown(&self) -> String {
        let mut out = "| | |\n|---|---|\n".to_owned();
        for (name, value) in &self.about {
            out += &format!("| {name} | {value} |\n");
        }
        for section in &self.sections {
            out += &format!("\n### {}\n\n{}\n\n", section.title, section.note);
            for (number, row) in section.cells().iter().enumerate() {
                out += &format!("| {} |\n", row.join(" | "));
                if number == 0 {
                    out += &format!("|---|{}\n", "---:|".repeat(row.len() - 1));
                }
            }
        }
        if !self.skipped.is_empty() {
            out += "\nSkipped:\n\n";
        }
        for skipped in &self.skipped {
            out += &format!("- {skipped}\n");
        }
        out
    }

    pub(crate) fn json(&self) -> String {
        let about: Map<String, Value> = self
            .about
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let sections: Vec<Value> = self.sections.iter().map(Section::json).collect();
        let report = json!({"about": about, "sections": sections, "skipped": self.skipped});
        format!("{report:#}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        const COLUMNS: &[Column] = &[
            column("seconds", "seconds", 2),
            column("broker", "broker's CPU", 2),
            column("peak", "peak MB", 0),
        ];
        let line = |name: &str, seconds: &[f64], peak: &[f64]| Line {
            name: name.to_owned(),
            figures: vec![
                Figure::of(seconds.iter().copied()),
                None,
                Figure::of(peak.iter().copied()),
            ],
        };
        Report {
            about: vec![("machine", "2 cores".to_owned())],
            sections: vec![Section {
                title: "Publishing".to_owned(),
                note: "Three rounds.",
                columns: COLUMNS,
                lines: vec![
                    line("ftap produce", &[2.0, 1.5, 9.25], &[100.2, 100.4]),
                    line("kcat -P", &[1.0], &[]),
                ],
            }],
            skipped: vec!["DuckDB: no module duckdb".to_owned()],
        }
    }

    #[test]
    fn the_median_is_in_the_middle_and_of_nothing_there_is_none() {
        let of_four = Figure::of([4.0, 1.0, 2.0, 9.0]).unwrap();
        assert_eq!(
            (of_four.least, of_four.median, of_four.most),
            (1.0, 3.0, 9.0)
        );
        assert_eq!(Figure::of([]), None);
    }

    #[test]
    fn a_table_is_aligned_and_has_no_column_without_figures() {
        let expected = "\
machine   2 cores

Publishing
Three rounds.
                       seconds  peak MB
ftap produce  2.00 (1.50-9.25)      100
kcat -P                   1.00

skipped: DuckDB: no module duckdb
";
        assert_eq!(report().text(), expected);
    }

    #[test]
    fn markdown_and_json_have_the_same_figures() {
        let markdown = report().markdown();
        assert!(
            markdown.contains("|  | seconds | peak MB |\n|---|---:|---:|\n"),
            "{markdown}"
        );
        assert!(
            markdown.contains("| ftap produce | 2.00 (1.50-9.25) | 100 |\n"),
            "{markdown}"
        );
        assert!(markdown.contains("| kcat -P | 1.00 |  |\n"), "{markdown}");
        let json: Value = serde_json::from_str(&report().json()).unwrap();
        let figures = &json["sections"][0]["lines"][0]["figures"];
        assert_eq!(figures["seconds"]["most"], 9.25);
        assert!(figures.get("broker").is_none(), "{json}");
    }
}
