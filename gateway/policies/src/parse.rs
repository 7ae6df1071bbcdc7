//! YAML to a tree of nodes with their positions, within bounds that no file can exceed.
//!
//! The parser yields events and never recurses. Each bound is checked at the event that exceeds it,
//! so that a file costs no more than its part before that event.

use std::borrow::Cow;

use granit_parser::{ErrorKind, Event, Options, Parser, ScalarStyle, Span, options};
use hashbrown::{HashMap, HashSet};

use crate::problem::{Place, Problems, shorten};

/// The most bytes of a file.
pub const MAX_FILE_BYTES: usize = 16 << 20;
/// The most lists and maps within each other.
pub const MAX_DEPTH: usize = 16;
/// The most nodes that the aliases of a file stand for.
pub const MAX_ALIAS_NODES: usize = 1_000;
/// The most items of one list or map, other than those with a bound of their own.
pub const MAX_ITEMS: usize = 1_000;
/// The most policies of a file.
pub const MAX_POLICIES: usize = 10_000;
/// The most overrides of a file.
pub const MAX_OVERRIDES: usize = 100_000;
/// The most nodes of a file; more than 10,000 policies and 100,000 overrides need.
const MAX_NODES: usize = 3_000_000;

/// A value of the file with its position.
#[derive(Clone, Debug)]
pub(crate) struct Node<'f> {
    pub(crate) place: Place,
    pub(crate) value: Value<'f>,
}

/// The three shapes of YAML.
#[derive(Clone, Debug)]
pub(crate) enum Value<'f> {
    /// Text as written; `plain` when it stands without quotes.
    Scalar { text: Cow<'f, str>, plain: bool },
    /// Items in order.
    List(Vec<Node<'f>>),
    /// Entries in order; no key is repeated.
    Map(Vec<(Key<'f>, Node<'f>)>),
}

/// A key of a map with its position.
#[derive(Clone, Debug)]
pub(crate) struct Key<'f> {
    pub(crate) place: Place,
    pub(crate) text: Cow<'f, str>,
    pub(crate) plain: bool,
}

/// Returns the tree of a file, or `None` after adding the faults that prevent one.
pub(crate) fn parse<'f>(bytes: &'f [u8], problems: &mut Problems) -> Option<Node<'f>> {
    let start = Place { line: 1, column: 1 };
    if bytes.len() > MAX_FILE_BYTES {
        let length = bytes.len();
        problems.expect(start, format!("the file has {length} bytes"), "at most 16 MiB");
        return None;
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            problems.expect(place_of(bytes, error.valid_up_to()), "the file is not text", "UTF-8");
            return None;
        }
    };
    match Builder::new(text).build(problems) {
        Ok(Some(node)) => Some(node),
        Ok(None) => {
            problems.expect(start, "the file is empty", "`version: 1` and `policies`");
            None
        }
        Err(Stop) => None,
    }
}

/// Returns the position of the byte at `offset` after valid text.
fn place_of(bytes: &[u8], offset: usize) -> Place {
    let before = String::from_utf8_lossy(bytes.get(..offset).unwrap_or_default());
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Place { line: bounded(line), column: bounded(column) }
}

fn bounded(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// The end of building after a fault that was added to the problems.
struct Stop;

/// A list or map whose end the parser has not reached yet.
struct Open<'f> {
    place: Place,
    anchor: usize,
    /// The most items; the key above decides.
    bound: usize,
    /// The word for the items in a message.
    items: &'static str,
    collection: Collection<'f>,
}

enum Collection<'f> {
    List(Vec<Node<'f>>),
    Map { entries: Vec<(Key<'f>, Node<'f>)>, key: Option<Key<'f>>, seen: HashSet<Cow<'f, str>> },
}

struct Builder<'f> {
    parser: Parser<'f, granit_parser::StrInput<'f>>,
    open: Vec<Open<'f>>,
    root: Option<Node<'f>>,
    /// Complete nodes with an anchor, and the number of nodes in each.
    anchors: HashMap<usize, (Node<'f>, usize)>,
    documents: usize,
    nodes: usize,
    alias_nodes: usize,
    overrides: usize,
}

impl<'f> Builder<'f> {
    fn new(text: &'f str) -> Self {
        // The depth is checked here. The parser reads ahead of its events, and has a wider bound.
        let options: Options = options! {
            emit_comments: false,
            flow_nesting_limit: MAX_DEPTH + 2,
            block_nesting_limit: MAX_DEPTH + 2,
        };
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            open: Vec::new(),
            root: None,
            anchors: HashMap::new(),
            documents: 0,
            nodes: 0,
            alias_nodes: 0,
            overrides: 0,
        }
    }

    fn build(mut self, problems: &mut Problems) -> Result<Option<Node<'f>>, Stop> {
        while let Some(next) = self.parser.next_event() {
            let (event, span) = match next {
                Ok(next) => next,
                Err(error) => {
                    let place = place_of_marker(error.marker());
                    if matches!(error.kind(), ErrorKind::RecursionLimitExceeded) {
                        return Err(too_deep(place, problems));
                    }
                    let info = error.info();
                    let text = info.lines().next().unwrap_or_default();
                    problems.add(place, format!("not valid YAML: {}", shorten(text)));
                    return Err(Stop);
                }
            };
            let place = place_of_marker(&span.start);
            self.step(event, place, &span, problems)?;
            if problems.full() {
                return Err(Stop);
            }
        }
        Ok(self.root)
    }

    fn step(
        &mut self,
        event: Event<'f>,
        place: Place,
        span: &Span,
        problems: &mut Problems,
    ) -> Result<(), Stop> {
        if event.tag().is_some() {
            let place = span.tag_start().as_ref().map_or(place, place_of_marker);
            problems.expect(place, "a tag", "a value without `!`");
            return Err(Stop);
        }
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    problems.expect(place, "a second document", "one document without `---`");
                    return Err(Stop);
                }
            }
            Event::Scalar(text, style, anchor, _) => {
                let plain = matches!(style, ScalarStyle::Plain);
                self.scalar(Key { place, text, plain }, anchor, problems)?;
            }
            Event::SequenceStart(_, anchor, _) => {
                self.open(place, anchor, Collection::List(Vec::new()), problems)?;
            }
            Event::MappingStart(_, anchor, _) => {
                let map = Collection::Map { entries: Vec::new(), key: None, seen: HashSet::new() };
                self.open(place, anchor, map, problems)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(problems)?,
            Event::Alias(anchor) => self.alias(place, anchor, problems)?,
            _ => {}
        }
        Ok(())
    }

    fn scalar(
        &mut self,
        scalar: Key<'f>,
        anchor: usize,
        problems: &mut Problems,
    ) -> Result<(), Stop> {
        if let Some(Open { collection: Collection::Map { key: key @ None, seen, .. }, .. }) =
            self.open.last_mut()
        {
            if scalar.plain && scalar.text == "<<" {
                problems.expect(scalar.place, "a merge key `<<`", "each key written out");
                return Err(Stop);
            }
            if !seen.insert(scalar.text.clone()) {
                let name = shorten(&scalar.text);
                problems.add(scalar.place, format!("the key `{name}` is repeated"));
            }
            if anchor != 0 {
                let value = Value::Scalar { text: scalar.text.clone(), plain: scalar.plain };
                self.anchors.insert(anchor, (Node { place: scalar.place, value }, 1));
            }
            *key = Some(scalar);
            return self.count(1, problems);
        }
        let value = Value::Scalar { text: scalar.text, plain: scalar.plain };
        self.attach(Node { place: scalar.place, value }, anchor, 1, problems)
    }

    fn open(
        &mut self,
        place: Place,
        anchor: usize,
        collection: Collection<'f>,
        problems: &mut Problems,
    ) -> Result<(), Stop> {
        self.check_key(place, problems)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(place, problems));
        }
        let (bound, items) = match self.key_above() {
            Some("policies") => (MAX_POLICIES, "policies"),
            Some("overrides") => (MAX_OVERRIDES, "overrides"),
            _ => (MAX_ITEMS, "items"),
        };
        self.open.push(Open { place, anchor, bound, items, collection });
        Ok(())
    }

    fn close(&mut self, problems: &mut Problems) -> Result<(), Stop> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.collection {
            Collection::List(items) => Value::List(items),
            Collection::Map { entries, .. } => Value::Map(entries),
        };
        self.attach(Node { place: open.place, value }, open.anchor, 1, problems)
    }

    fn alias(&mut self, place: Place, anchor: usize, problems: &mut Problems) -> Result<(), Stop> {
        self.check_key(place, problems)?;
        let Some((node, size)) = self.anchors.get(&anchor) else {
            problems.add(place, "an alias stands inside the value that it names");
            return Err(Stop);
        };
        let size = *size;
        self.alias_nodes += size;
        if self.alias_nodes > MAX_ALIAS_NODES {
            let problem = "aliases stand for too many values";
            problems.expect(place, problem, format!("at most {MAX_ALIAS_NODES} values in all"));
            return Err(Stop);
        }
        if self.open.len() + depth(node) > MAX_DEPTH {
            return Err(too_deep(place, problems));
        }
        let node = node.clone();
        self.attach(node, 0, size, problems)
    }

    /// Refuses a list, map or alias in the position of a key.
    fn check_key(&self, place: Place, problems: &mut Problems) -> Result<(), Stop> {
        match self.open.last() {
            Some(Open { collection: Collection::Map { key: None, .. }, .. }) => {
                problems.expect(place, "a key that is not text", "a word");
                Err(Stop)
            }
            _ => Ok(()),
        }
    }

    /// Returns the key whose value comes next.
    fn key_above(&self) -> Option<&str> {
        match &self.open.last()?.collection {
            Collection::Map { key: Some(key), .. } => Some(&key.text),
            _ => None,
        }
    }

    /// Puts a complete node into the list or map that is open.
    fn attach(
        &mut self,
        node: Node<'f>,
        anchor: usize,
        size: usize,
        problems: &mut Problems,
    ) -> Result<(), Stop> {
        self.count(size, problems)?;
        if anchor != 0 {
            let size = size_of_tree(&node);
            // No alias can refer to a larger value, so no copy is needed.
            if size <= MAX_ALIAS_NODES {
                self.anchors.insert(anchor, (node.clone(), size));
            } else {
                let hollow = Node { place: node.place, value: Value::List(Vec::new()) };
                self.anchors.insert(anchor, (hollow, size));
            }
        }
        let place = node.place;
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        let length = match &mut open.collection {
            Collection::List(items) => {
                items.push(node);
                items.len()
            }
            Collection::Map { entries, key, .. } => {
                if let Some(key) = key.take() {
                    entries.push((key, node));
                }
                entries.len()
            }
        };
        if open.items == "overrides" {
            self.overrides += 1;
        }
        if length > open.bound || self.overrides > MAX_OVERRIDES {
            let expected = format!("at most {} {}", open.bound, open.items);
            problems.expect(place, format!("too many {}", open.items), expected);
            return Err(Stop);
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, problems: &mut Problems) -> Result<(), Stop> {
        self.nodes += nodes;
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        let place = self.open.last().map_or_else(Place::default, |open| open.place);
        problems.expect(place, "too many values", format!("at most {MAX_NODES} in a file"));
        Err(Stop)
    }
}

fn too_deep(place: Place, problems: &mut Problems) -> Stop {
    let expected = format!("at most {MAX_DEPTH} levels");
    problems.expect(place, "lists and maps are nested too deeply", expected);
    Stop
}

fn place_of_marker(marker: &granit_parser::Marker) -> Place {
    Place { line: bounded(marker.line()), column: bounded(marker.col() + 1) }
}

/// Returns the number of nodes of a tree, whose depth is bounded.
fn size_of_tree(node: &Node<'_>) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(size_of_tree).sum::<usize>(),
        Value::Map(entries) => {
            1 + entries.iter().map(|(_, value)| 1 + size_of_tree(value)).sum::<usize>()
        }
    }
}

/// Returns the number of levels of a tree.
fn depth(node: &Node<'_>) -> usize {
    match &node.value {
        Value::Scalar { .. } => 0,
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|(_, value)| depth(value)).max().unwrap_or(0),
    }
}
