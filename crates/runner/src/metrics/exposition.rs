//! Prometheus' text form, version 0.0.4: families of samples with labels.

use std::fmt::Write as _;

/// `Content-Type` of a page in this form.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What a family's numbers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Goes up only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

/// A page being written.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

/// One family of the page. Every sample has the same label names.
pub struct Family<'a> {
    text: &'a mut String,
    name: &'static str,
}

/// Counts of values by upper bound.
#[derive(Debug, Clone)]
pub struct Histogram {
    bounds: &'static [f64],
    counts: Vec<u64>,
    sum: f64,
    count: u64,
}

impl Exposition {
    /// Begins a family. A name is begun once on a page.
    pub fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> Family<'_> {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let help = help.replace('\\', r"\\").replace('\n', r"\n");
        self.write(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        Family {
            text: &mut self.text,
            name,
        }
    }

    /// A family of one sample without labels.
    pub fn single(&mut self, name: &'static str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help).sample(&[], value);
    }

    /// The page.
    pub fn finish(self) -> String {
        self.text
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("a String takes all text");
    }
}

impl Family<'_> {
    /// One sample.
    pub fn sample(&mut self, labels: &[(&str, &str)], value: f64) {
        self.line("", labels, None, value);
    }

    /// The samples of a histogram.
    pub fn histogram(&mut self, labels: &[(&str, &str)], histogram: &Histogram) {
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            self.line("_bucket", labels, Some(*bound), below as f64);
        }
        let count = histogram.count as f64;
        self.line("_bucket", labels, Some(f64::INFINITY), count);
        self.line("_sum", labels, None, histogram.sum);
        self.line("_count", labels, None, count);
    }

    fn line(&mut self, ending: &str, labels: &[(&str, &str)], bound: Option<f64>, value: f64) {
        self.text.push_str(self.name);
        self.text.push_str(ending);
        let bound = bound.map(number);
        let bound = bound.as_deref().map(|bound| ("le", bound));
        let mut separator = '{';
        for (name, value) in labels.iter().copied().chain(bound) {
            self.text.push(separator);
            separator = ',';
            self.text.push_str(name);
            self.text.push_str("=\"");
            for letter in value.chars() {
                match letter {
                    '\\' => self.text.push_str(r"\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str(r"\n"),
                    letter => self.text.push(letter),
                }
            }
            self.text.push('"');
        }
        if separator == ',' {
            self.text.push('}');
        }
        self.text.push(' ');
        self.text.push_str(&number(value));
        self.text.push('\n');
    }
}

/// A number as Go reads it.
fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

impl Histogram {
    /// An empty one with these upper bounds, ascending.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: vec![0; bounds.len()],
            sum: 0.0,
            count: 0,
        }
    }

    /// Counts a value.
    pub fn observe(&mut self, value: f64) {
        if let Some(index) = self.bounds.iter().position(|bound| value <= *bound) {
            self.counts[index] += 1;
        }
        self.sum += value;
        self.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_labels_are_escaped_and_numbers_are_gos() {
        let mut page = Exposition::default();
        let mut family = page.family("a_total", Kind::Counter, "Of \\ and\nlines");
        family.sample(&[("file", "C:\\x \"y\"\nz{},="), ("empty", "")], 3.0);
        family.sample(&[], 0.25);
        page.single("b", Kind::Gauge, "Never", f64::INFINITY);
        page.single("c", Kind::Gauge, "Seconds", 4_102_444_800.0);
        assert_eq!(
            page.finish(),
            "# HELP a_total Of \\\\ and\\nlines\n# TYPE a_total counter\n\
             a_total{file=\"C:\\\\x \\\"y\\\"\\nz{},=\",empty=\"\"} 3\na_total 0.25\n\
             # HELP b Never\n# TYPE b gauge\nb +Inf\n\
             # HELP c Seconds\n# TYPE c gauge\nc 4102444800\n"
        );
    }

    #[test]
    fn buckets_are_cumulative_and_end_with_infinity() {
        let mut histogram = Histogram::new(&[0.5, 30.0]);
        for value in [0.1, 0.5, 7.0, 31.0] {
            histogram.observe(value);
        }
        let mut page = Exposition::default();
        let mut family = page.family("d", Kind::Histogram, "Durations");
        family.histogram(&[("r", "x")], &histogram);
        let expected = "d_bucket{r=\"x\",le=\"0.5\"} 2\nd_bucket{r=\"x\",le=\"30\"} 3\n\
             d_bucket{r=\"x\",le=\"+Inf\"} 4\nd_sum{r=\"x\"} 38.6\nd_count{r=\"x\"} 4\n";
        assert!(page.finish().ends_with(expected));
    }
}
