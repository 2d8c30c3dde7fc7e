//! Circular needs (`gitlab-ci-yaml.md` 14): the strongly connected jobs, in the order a walk along the
//! needs meets them.

/// The first circle with one of its jobs: `edges` has the needs of each job, `name` gives its name.
pub(crate) fn find<'n>(
    edges: &[Vec<usize>],
    name: &dyn Fn(usize) -> &'n str,
) -> Option<(usize, String)> {
    let mut walk = Walk {
        edges,
        order: vec![0; edges.len()],
        lowest: vec![0; edges.len()],
        open: vec![false; edges.len()],
        met: Vec::new(),
        count: 0,
    };
    let message = |text: String| format!("The pipeline has circular dependencies: {text}");
    for start in 0..edges.len() {
        if walk.order[start] != 0 {
            continue;
        }
        match walk.from(start) {
            None => {}
            Some(Circle::OfOne(at)) => {
                return Some((at, message(format!("self-dependency: {}", name(at)))));
            }
            Some(Circle::OfMany(jobs)) => {
                let names: Vec<&str> = jobs.iter().map(|at| name(*at)).collect();
                let text = message(format!("topological sort failed: {names:?}"));
                return Some((jobs[0], text));
            }
        }
    }
    None
}

enum Circle {
    OfOne(usize),
    /// At least two.
    OfMany(Vec<usize>),
}

/// Tarjan's algorithm with its own stack, because chains may be long.
struct Walk<'a> {
    edges: &'a [Vec<usize>],
    /// When a job was met, from 1; 0 before that.
    order: Vec<usize>,
    lowest: Vec<usize>,
    open: Vec<bool>,
    met: Vec<usize>,
    count: usize,
}

impl Walk<'_> {
    fn enter(&mut self, at: usize) -> (usize, usize) {
        self.count += 1;
        self.order[at] = self.count;
        self.lowest[at] = self.count;
        self.open[at] = true;
        self.met.push(at);
        (at, 0)
    }

    fn from(&mut self, start: usize) -> Option<Circle> {
        let mut path = vec![self.enter(start)];
        while let Some((at, next)) = path.last_mut() {
            let at = *at;
            if *next == 0 && self.edges[at].contains(&at) {
                return Some(Circle::OfOne(at));
            }
            if let Some(&needed) = self.edges[at].get(*next) {
                *next += 1;
                if self.order[needed] == 0 {
                    path.push(self.enter(needed));
                } else if self.open[needed] {
                    self.lowest[at] = self.lowest[at].min(self.order[needed]);
                }
                continue;
            }
            path.pop();
            if let Some((above, _)) = path.last() {
                self.lowest[*above] = self.lowest[*above].min(self.lowest[at]);
            }
            if self.lowest[at] == self.order[at] {
                let from = self.met.iter().rposition(|met| *met == at)?;
                let jobs = self.met.split_off(from);
                for job in &jobs {
                    self.open[*job] = false;
                }
                if jobs.len() > 1 {
                    return Some(Circle::OfMany(jobs));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_named_in_the_order_of_a_walk() {
        let names = ["a", "b", "c", "d"];
        for (edges, expected) in [
            (vec![vec![], vec![0], vec![0, 1], vec![]], None),
            (
                vec![vec![2], vec![0], vec![1], vec![]],
                Some(r#"topological sort failed: ["a", "c", "b"]"#),
            ),
            (
                vec![vec![3], vec![2], vec![1], vec![]],
                Some(r#"topological sort failed: ["b", "c"]"#),
            ),
            (
                vec![vec![1], vec![0, 2], vec![1], vec![]],
                Some(r#"topological sort failed: ["a", "b", "c"]"#),
            ),
            (
                vec![vec![1], vec![1], vec![], vec![]],
                Some("self-dependency: b"),
            ),
        ] {
            let found = find(&edges, &|at| names[at]).map(|(_, message)| message);
            let expected =
                expected.map(|text| format!("The pipeline has circular dependencies: {text}"));
            assert_eq!(found, expected, "{edges:?}");
        }
    }
}
