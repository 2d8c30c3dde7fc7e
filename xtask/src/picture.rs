//! A recorded terminal session, played to its last screen and drawn as SVG.
//!
//! `docs/images/exec.txt` is what util-linux `script` wrote of a real run:
//! `XDG_STATE_HOME=/tmp/state script -qec 'courser exec examples/matrix' docs/images/exec.txt`.
//! `docs/images/trust-check.txt` is `courser trust check https://gitlab.example.com/group/project.git` in a mount
//! namespace where that name is loopback, against `openssl s_server` with the leaf alone.
//! The same recording always gives the same picture.

use std::fmt::Write as _;

use anyhow::{Context, Result};

/// Width of a character and height of a line in the picture.
const CELL: (f64, f64) = (7.8, 18.0);
const MARGIN: f64 = 16.0;
const BAR: f64 = 30.0;

/// SVG of the last screen of a recording; `title` is what a screen reader says.
pub(crate) fn draw(recording: &str, title: &str) -> Result<String> {
    let (header, body) = recording
        .split_once('\n')
        .context("the recording has no first line")?;
    let fact = |name: &str| {
        let (_, rest) = header.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value)
    };
    let command = fact("COMMAND").context("the recording does not name its command")?;
    let columns = fact("COLUMNS")
        .and_then(|columns| columns.parse().ok())
        .context("the recording does not tell the terminal's width")?;
    let body = body.split("\nScript done on").next().unwrap_or(body);
    let mut screen = Screen::new(columns);
    for character in format!("$ {command}\r\n").chars() {
        screen.put(character);
    }
    screen.play(body);
    Ok(svg(&screen.rows(), title))
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Style {
    bold: bool,
    dim: bool,
    /// 30 to 37 or 90 to 97; 0 is the default.
    colour: u8,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    character: char,
    style: Style,
}

/// As much of a terminal as the live view uses.
struct Screen {
    columns: usize,
    cells: Vec<Vec<Cell>>,
    row: usize,
    column: usize,
    style: Style,
}

impl Screen {
    fn new(columns: usize) -> Self {
        Self {
            columns,
            cells: vec![Vec::new()],
            row: 0,
            column: 0,
            style: Style::default(),
        }
    }

    fn play(&mut self, text: &str) {
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            rest = &rest[character.len_utf8()..];
            if character != '\u{1b}' {
                self.put(character);
                continue;
            }
            let Some(sequence) = rest.strip_prefix('[') else {
                continue;
            };
            let end = sequence.find(|c: char| c.is_ascii_alphabetic());
            let Some(end) = end else { return };
            self.control(&sequence[..end], sequence.as_bytes()[end]);
            rest = &sequence[end + 1..];
        }
    }

    fn control(&mut self, parameters: &str, command: u8) {
        let number = parameters.parse::<usize>().unwrap_or(1).max(1);
        match command {
            b'A' => self.row = self.row.saturating_sub(number),
            b'B' => self.row += number,
            b'K' if parameters == "2" => self.line().clear(),
            b'K' => {
                let column = self.column;
                self.line().truncate(column);
            }
            b'm' => parameters
                .split(';')
                .for_each(|code| match code.parse().unwrap_or(0) {
                    1 => self.style.bold = true,
                    2 => self.style.dim = true,
                    colour @ (30..=37 | 90..=97) => self.style.colour = colour,
                    0 => self.style = Style::default(),
                    _ => {}
                }),
            _ => {}
        }
    }

    fn put(&mut self, character: char) {
        match character {
            '\r' => self.column = 0,
            '\n' => self.row += 1,
            // A terminal shows nothing for these; `script` begins with a NUL.
            control if control.is_control() => {}
            _ => {
                if self.column == self.columns {
                    self.column = 0;
                    self.row += 1;
                }
                let (column, style) = (self.column, self.style);
                let blank = Cell {
                    character: ' ',
                    style: Style::default(),
                };
                let line = self.line();
                if line.len() <= column {
                    line.resize(column + 1, blank);
                }
                line[column] = Cell { character, style };
                self.column += 1;
            }
        }
    }

    fn line(&mut self) -> &mut Vec<Cell> {
        if self.cells.len() <= self.row {
            self.cells.resize(self.row + 1, Vec::new());
        }
        &mut self.cells[self.row]
    }

    /// Lines as words of one style: first column, text, style. Two spaces end a word, so that no reader's
    /// idea of white space moves anything. Nothing below the last line with text.
    fn rows(&self) -> Vec<Vec<(usize, String, Style)>> {
        let mut rows: Vec<Vec<(usize, String, Style)>> = Vec::new();
        for line in &self.cells {
            let mut runs: Vec<(usize, String, Style)> = Vec::new();
            for (column, cell) in line.iter().enumerate() {
                match runs.last_mut() {
                    Some((_, text, style)) if *style == cell.style && !text.ends_with("  ") => {
                        text.push(cell.character);
                    }
                    _ => runs.push((column, cell.character.to_string(), cell.style)),
                }
            }
            runs.retain(|(_, text, _)| !text.trim().is_empty());
            rows.push(runs);
        }
        while rows.last().is_some_and(Vec::is_empty) {
            rows.pop();
        }
        rows
    }
}

fn svg(rows: &[Vec<(usize, String, Style)>], title: &str) -> String {
    let columns = rows
        .iter()
        .flatten()
        .map(|(column, text, _)| column + text.trim_end().chars().count())
        .max()
        .unwrap_or(0);
    let width = columns as f64 * CELL.0 + 2.0 * MARGIN;
    let height = rows.len() as f64 * CELL.1 + BAR + 2.0 * MARGIN;
    let mut picture = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" role="img" aria-labelledby="title">
<title id="title">{}</title>
<style>
  text {{ font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #e6e6e6; white-space: pre; }}
  .b {{ font-weight: bold; }} .d {{ fill: #9aa4b0; }}
  .red {{ fill: #ff7b72; }} .green {{ fill: #56d364; }} .yellow {{ fill: #e3b341; }} .blue {{ fill: #79c0ff; }} .grey {{ fill: #9aa4b0; }}
</style>
<rect x="0.5" y="0.5" width="{:.0}" height="{:.0}" rx="8" fill="#16191d" stroke="#6e7681"/>
<circle cx="18" cy="17" r="5" fill="#ff7b72"/><circle cx="36" cy="17" r="5" fill="#e3b341"/><circle cx="54" cy="17" r="5" fill="#56d364"/>
"##,
        escape(title),
        width - 1.0,
        height - 1.0
    );
    for (row, runs) in rows.iter().enumerate() {
        let y = BAR + MARGIN + (row as f64 + 0.75) * CELL.1;
        for (column, text, style) in runs {
            let skipped = text.len() - text.trim_start().len();
            let text = text.trim();
            let x = MARGIN + (column + skipped) as f64 * CELL.0;
            let length = text.chars().count() as f64 * CELL.0;
            // The length keeps columns in line whatever font the reader has.
            let _ = writeln!(
                picture,
                r#"<text x="{x:.1}" y="{y:.1}" textLength="{length:.1}" lengthAdjust="spacingAndGlyphs"{}>{}</text>"#,
                class(*style),
                escape(text)
            );
        }
    }
    picture.push_str("</svg>\n");
    picture
}

fn class(style: Style) -> String {
    let colour = match style.colour {
        31 | 91 => "red",
        32 | 92 => "green",
        33 | 93 => "yellow",
        34 | 94 | 36 | 96 => "blue",
        90 => "grey",
        _ if style.dim => "d",
        _ => "",
    };
    match (style.bold, colour) {
        (false, "") => String::new(),
        (true, "") => r#" class="b""#.to_owned(),
        (true, colour) => format!(r#" class="b {colour}""#),
        (false, colour) => format!(r#" class="{colour}""#),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Script started on a day [COMMAND=\"exec x\" COLUMNS=\"10\"]\n";

    #[test]
    fn only_the_last_screen_is_drawn() {
        let recording = format!(
            "{HEADER}working\r\u{1b}[2K\u{1b}[32m✓\u{1b}[0m done\r\n0123456789wrapped\u{1b}[1A\r\u{1b}[2Kabove\r\n\r\nScript done on a day"
        );
        let picture = draw(&recording, "a <run>").expect("drawn");
        for shown in [
            ">$ exec x<",
            "class=\"green\">✓<",
            ">done<",
            ">above<",
            ">wrapped<",
            "a &lt;run&gt;",
        ] {
            assert!(picture.contains(shown), "{shown}: {picture}");
        }
        for gone in ["working", "0123456789", "Script", "\u{1b}"] {
            assert!(!picture.contains(gone), "{gone}: {picture}");
        }
    }

    #[test]
    fn a_recording_must_tell_command_and_width() {
        for text in ["", "Script started\nx", "Script started [COMMAND=\"x\"]\ny"] {
            assert!(draw(text, "t").is_err(), "{text}");
        }
    }
}
