//! A measured figure, its goal, and the table of all.

use std::fmt::Write as _;

use serde::Serialize;

/// Bytes in the megabyte of the goals.
const MEGABYTE: f64 = 1_000_000.0;

/// One row of the table.
#[derive(Debug, Serialize)]
pub(crate) struct Figure {
    what: String,
    unit: &'static str,
    courser: f64,
    peer: Option<f64>,
    goal: Option<Goal>,
}

/// What the figure should be.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
    /// Of the peer's figure in the same run.
    RatioAtMost(f64),
}

impl Figure {
    pub(crate) fn milliseconds(what: impl Into<String>, seconds: f64) -> Self {
        Self::new(what, "ms", seconds * 1000.0)
    }

    pub(crate) fn microseconds(what: impl Into<String>, seconds: f64) -> Self {
        Self::new(what, "µs", seconds * 1e6)
    }

    pub(crate) fn megabytes(what: impl Into<String>, bytes: u64) -> Self {
        Self::new(what, "MB", bytes as f64 / MEGABYTE)
    }

    pub(crate) fn new(what: impl Into<String>, unit: &'static str, courser: f64) -> Self {
        Self {
            what: what.into(),
            unit,
            courser,
            peer: None,
            goal: None,
        }
    }

    pub(crate) fn goal(self, goal: Goal) -> Self {
        self.with_goal(Some(goal))
    }

    /// With a goal, if there is one for it.
    fn with_goal(mut self, goal: Option<Goal>) -> Self {
        self.goal = goal;
        self
    }

    /// With the same figure of a peer.
    pub(crate) fn beside(mut self, peer: Option<Self>) -> Self {
        self.peer = peer.map(|peer| peer.courser);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| self.courser / peer)
    }

    fn is_met(&self) -> Option<bool> {
        match self.goal? {
            Goal::AtMost(bound) => Some(self.courser <= bound),
            Goal::AtLeast(bound) => Some(self.courser >= bound),
            Goal::RatioAtMost(bound) => self.ratio().map(|ratio| ratio <= bound),
        }
    }

    fn goal_text(&self) -> String {
        let unit = self.unit;
        let goal = match self.goal {
            None => return String::new(),
            Some(Goal::AtMost(bound)) => format!("≤ {bound} {unit}"),
            Some(Goal::AtLeast(bound)) => format!("≥ {bound} {unit}"),
            Some(Goal::RatioAtMost(bound)) => format!("≤ {bound} of the peer"),
        };
        match self.is_met() {
            Some(true) => goal,
            Some(false) => format!("{goal}: **missed**"),
            None => format!("{goal}: no peer"),
        }
    }
}

/// Each figure with the same one of a peer, if there is a peer, and with its goal.
pub(crate) fn side_by_side<const N: usize>(
    own: impl IntoIterator<Item = Figure>,
    peer: Option<impl IntoIterator<Item = Figure>>,
    goals: [Option<Goal>; N],
) -> Vec<Figure> {
    let mut peer = peer.into_iter().flatten();
    own.into_iter()
        .zip(goals)
        .map(|(own, goal)| own.beside(peer.next()).with_goal(goal))
        .collect()
}

/// Figures as a Markdown table.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table = String::from(
        "| figure | Courser | goal | peer | ratio |\n| --- | ---: | --- | ---: | ---: |\n",
    );
    for figure in figures {
        let Figure { what, unit, .. } = figure;
        let own = amount(figure.courser);
        let peer = figure.peer.map(|peer| format!("{} {unit}", amount(peer)));
        let ratio = figure.ratio().map(|ratio| format!("{ratio:.2}"));
        let (peer, ratio) = (peer.unwrap_or_default(), ratio.unwrap_or_default());
        let goal = figure.goal_text();
        writeln!(
            table,
            "| {what} | {own} {unit} | {goal} | {peer} | {ratio} |"
        )
        .expect("a string takes all that is written");
    }
    table
}

/// Three digits are as many as repeat.
fn amount(value: f64) -> String {
    match value {
        large if large >= 100.0 => format!("{large:.0}"),
        medium if medium >= 10.0 => format!("{medium:.1}"),
        small => format!("{small:.2}"),
    }
}

/// The middle of several runs.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
