//! The picture of a group of stages: boxes in columns in the direction of the data, and arrows between them.
//!
//! Promises a place for every stage and an arrow for every way, whatever the wiring. Pure.

use std::collections::BTreeMap;

use ftap_supervision::{Graph, Way};

const BOX_WIDTH: usize = 136;
const BOX_HEIGHT: usize = 44;
/// Between two columns: an arrow and what it carries.
const COLUMN: usize = BOX_WIDTH + 66;
const ROW: usize = BOX_HEIGHT + 26;
const MARGIN: usize = 8;
/// Below the boxes, for each arrow that leads back.
const BACK: usize = 22;

pub(crate) struct Picture {
    pub width: usize,
    pub height: usize,
    pub boxes: Vec<Drawn>,
    pub arrows: Vec<Arrow>,
}

/// A stage, or all stages of a kind, or a place outside of the group.
pub(crate) struct Drawn {
    pub x: usize,
    pub y: usize,
    pub name: String,
    /// Work in hand; `None` for a place.
    pub in_hand: Option<u64>,
}

impl Drawn {
    pub(crate) fn width(&self) -> usize {
        BOX_WIDTH
    }

    pub(crate) fn height(&self) -> usize {
        BOX_HEIGHT
    }

    pub(crate) fn middle(&self) -> usize {
        self.x + BOX_WIDTH / 2
    }

    pub(crate) fn name_line(&self) -> usize {
        self.y + if self.in_hand.is_some() { 19 } else { 27 }
    }

    pub(crate) fn work_line(&self) -> usize {
        self.y + 35
    }
}

pub(crate) struct Arrow {
    /// As a path's `d`.
    pub path: String,
    /// What it carries, and where that is written.
    pub label: String,
    pub x: usize,
    pub y: usize,
}

struct Node {
    name: &'static str,
    /// Stages of the kind, and the work they have; none for a place.
    stages: usize,
    in_hand: u64,
    column: usize,
    row: usize,
}

impl Picture {
    pub(crate) fn of(graph: &Graph) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        for stage in &graph.stages {
            let node = place(&mut nodes, stage.name.kind());
            nodes[node].stages += 1;
            nodes[node].in_hand += stage.in_hand;
        }
        let mut arrows: BTreeMap<(usize, usize), Vec<&str>> = BTreeMap::new();
        for Way { from, to, message } in &graph.ways {
            let ends = (place(&mut nodes, from), place(&mut nodes, to));
            let messages = arrows.entry(ends).or_default();
            messages.extend(Some(*message).filter(|message| !message.is_empty()));
        }
        let ends: Vec<_> = arrows.keys().copied().collect();
        arrange(&mut nodes, &ends);

        let bottom = nodes.iter().map(|node| node.row + 1).max().unwrap_or(0) * ROW;
        let columns = nodes.iter().map(|node| node.column + 1).max().unwrap_or(0);
        let mut backs = 0;
        let mut drawn = Vec::new();
        for ((from, to), messages) in arrows {
            let (from, to) = (&nodes[from], &nodes[to]);
            let label = messages.join(", ");
            let left = |node: &Node| MARGIN + node.column * COLUMN;
            let middle = |node: &Node| MARGIN + node.row * ROW + BOX_HEIGHT / 2;
            if from.column < to.column {
                let (x1, y1) = (left(from) + BOX_WIDTH, middle(from));
                let (x2, y2) = (left(to), middle(to));
                // Over columns that lie between, it leaves upwards of the boxes in them.
                let is_far = to.column - from.column > 1;
                let path = if is_far {
                    let y = MARGIN + bottom + BACK * backs + BACK / 2;
                    backs += 1;
                    around(
                        left(from) + BOX_WIDTH * 3 / 4,
                        left(to) + BOX_WIDTH / 4,
                        from,
                        to,
                        y,
                    )
                } else {
                    let bend = (x1 + x2) / 2;
                    format!("M{x1} {y1} C{bend} {y1} {bend} {y2} {} {y2}", x2 - 2)
                };
                let (x, y) = if is_far {
                    let y = MARGIN + bottom + BACK * (backs - 1) + BACK / 2;
                    ((left(from) + left(to) + BOX_WIDTH) / 2, y - 4)
                } else {
                    ((x1 + x2) / 2, (y1 + y2) / 2 - 6)
                };
                drawn.push(Arrow { path, label, x, y });
            } else {
                let y = MARGIN + bottom + BACK * backs + BACK / 2;
                backs += 1;
                let (x1, x2) = (left(from) + BOX_WIDTH / 2, left(to) + BOX_WIDTH / 2);
                drawn.push(Arrow {
                    path: around(x1, x2, from, to, y),
                    label,
                    x: (x1 + x2) / 2,
                    y: y - 4,
                });
            }
        }
        let boxes = nodes.iter().map(|node| Drawn {
            x: MARGIN + node.column * COLUMN,
            y: MARGIN + node.row * ROW,
            name: match node.stages {
                0 | 1 => node.name.to_owned(),
                stages => format!("{} × {stages}", node.name),
            },
            in_hand: (node.stages > 0).then_some(node.in_hand),
        });
        let gaps = columns.saturating_sub(1) * (COLUMN - BOX_WIDTH);
        Self {
            width: 2 * MARGIN + columns * BOX_WIDTH + gaps,
            height: 2 * MARGIN + bottom + BACK * backs,
            boxes: boxes.collect(),
            arrows: drawn,
        }
    }
}

/// From below one box, along `y`, to another from below.
fn around(x1: usize, x2: usize, from: &Node, to: &Node, y: usize) -> String {
    let below = |node: &Node| MARGIN + node.row * ROW + BOX_HEIGHT;
    format!("M{x1} {} V{y} H{x2} V{}", below(from), below(to) + 3)
}

fn place(nodes: &mut Vec<Node>, name: &'static str) -> usize {
    if let Some(known) = nodes.iter().position(|node| node.name == name) {
        return known;
    }
    nodes.push(Node {
        name,
        stages: 0,
        in_hand: 0,
        column: 0,
        row: 0,
    });
    nodes.len() - 1
}

/// Columns by the longest way from where data come in; ways that lead back are left out of that.
fn arrange(nodes: &mut [Node], ways: &[(usize, usize)]) {
    let comes_in = |node: usize| !ways.iter().any(|(from, to)| *to == node && *from != node);
    let mut starts: Vec<_> = (0..nodes.len()).filter(|node| comes_in(*node)).collect();
    starts.extend(0..nodes.len());
    let mut forward = Vec::new();
    let mut seen = vec![Seen::No; nodes.len()];
    for start in starts {
        walk(start, ways, &mut seen, &mut forward);
    }
    // A way ends one column further at most for each node.
    for _ in 0..nodes.len() {
        for (from, to) in &forward {
            nodes[*to].column = nodes[*to].column.max(nodes[*from].column + 1);
        }
    }
    let mut filled: BTreeMap<usize, usize> = BTreeMap::new();
    for node in nodes {
        let row = filled.entry(node.column).or_default();
        node.row = *row;
        *row += 1;
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    OnTheWay,
    Done,
}

/// Collects the ways that do not lead back to where the walk comes from.
fn walk(
    node: usize,
    ways: &[(usize, usize)],
    seen: &mut [Seen],
    forward: &mut Vec<(usize, usize)>,
) {
    if seen[node] != Seen::No {
        return;
    }
    seen[node] = Seen::OnTheWay;
    for (_, to) in ways.iter().filter(|(from, _)| *from == node) {
        if seen[*to] != Seen::OnTheWay {
            forward.push((node, *to));
            walk(*to, ways, seen, forward);
        }
    }
    seen[node] = Seen::Done;
}

#[cfg(test)]
mod tests {
    use ftap_supervision::{StageName, StageWork};

    use super::*;

    fn way(from: &'static str, to: &'static str, message: &'static str) -> Way {
        Way { from, to, message }
    }

    #[test]
    fn data_flow_from_left_to_right_and_what_leads_back_is_drawn_below() {
        let stages = [
            StageName::from("subscriber"),
            StageName::from("uploader"),
            StageName::numbered("buffer", 0),
            StageName::numbered("buffer", 1),
        ];
        let graph = Graph {
            stages: stages.map(|name| StageWork { name, in_hand: 2 }).into(),
            ways: vec![
                way("uploader", "subscriber", "DurableUpTo"),
                way("subscriber", "uploader", "FindChainEnds"),
                way("Kafka", "subscriber", ""),
                way("subscriber", "buffer", "Records"),
                way("buffer", "uploader", "Upload"),
                way("uploader", "lake", ""),
            ],
        };
        let picture = Picture::of(&graph);
        let at = |name: &str| {
            let found = picture.boxes.iter().find(|drawn| drawn.name == name);
            found.map(|drawn| (drawn.x - MARGIN) / COLUMN)
        };
        assert_eq!(at("Kafka"), Some(0));
        assert_eq!(at("subscriber"), Some(1));
        assert_eq!(at("buffer × 2"), Some(2));
        assert_eq!(at("uploader"), Some(3));
        assert_eq!(at("lake"), Some(4));
        assert_eq!(picture.arrows.len(), graph.ways.len());
        let buffers = picture
            .boxes
            .iter()
            .find(|drawn| drawn.name == "buffer × 2");
        assert_eq!(buffers.and_then(|drawn| drawn.in_hand), Some(4));
    }

    #[test]
    fn stages_in_a_circle_or_alone_have_a_place() {
        let stages = ["one", "two", "alone"].map(StageName::from);
        let graph = Graph {
            stages: stages.map(|name| StageWork { name, in_hand: 0 }).into(),
            ways: vec![
                way("one", "two", "A"),
                way("two", "one", "B"),
                way("one", "one", "C"),
            ],
        };
        let picture = Picture::of(&graph);
        assert_eq!(picture.boxes.len(), 3);
        assert_eq!(picture.arrows.len(), 3);
        assert!(picture.width > 0 && picture.height > 0);
        let nothing = Picture::of(&Graph::default());
        assert!(nothing.boxes.is_empty());
    }
}
