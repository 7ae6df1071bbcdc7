//! The Markdown files of the repository and their parts.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use pulldown_cmark::{CodeBlockKind, CowStr, Event, Options, Parser, Tag, TagEnd};

/// Returns the root directory of the repository.
pub(crate) fn repository() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A Markdown file.
#[derive(Debug)]
pub(crate) struct Document {
    /// Path of the file in the repository.
    pub(crate) path: PathBuf,
    /// Anchors of the headings, which links can point at, in the form of GitHub.
    pub(crate) anchors: BTreeSet<String>,
    /// Targets of the links and pictures, in the order of the file.
    pub(crate) links: Vec<String>,
    pub(crate) blocks: Vec<Block>,
}

/// A fenced block of code.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// The language after the fence.
    pub(crate) language: String,
    pub(crate) text: String,
    pub(crate) line: usize,
    /// True if there is no text between this block and the block before it.
    pub(crate) follows: bool,
}

impl Document {
    /// Returns every Markdown file that is not generated.
    pub(crate) fn all() -> Vec<Self> {
        let mut paths = Vec::new();
        collect(&repository(), &mut paths);
        assert!(!paths.is_empty(), "the repository has Markdown files");
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("a Markdown file");
        let path = path.strip_prefix(repository()).expect("a path in the repository").to_owned();
        let mut document = Self { path, anchors: BTreeSet::new(), links: vec![], blocks: vec![] };
        document.take_apart(&text);
        document
    }

    fn take_apart(&mut self, text: &str) {
        let mut titles = HashMap::new();
        let mut inside = Inside::Prose;
        let mut follows = false;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { .. }) => inside = Inside::Heading(String::new()),
                Event::Start(Tag::CodeBlock(kind)) => {
                    let CodeBlockKind::Fenced(language) = kind else {
                        panic!("{}: a block without a fence", self.path.display());
                    };
                    let line = text[..range.start].lines().count() + 1;
                    inside = Inside::Block(Block {
                        language: language.into_string(),
                        text: String::new(),
                        line,
                        follows,
                    });
                }
                Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                    self.links.push(dest_url.into_string());
                }
                Event::Text(part) | Event::Code(part) => inside.extend(&part),
                Event::Html(part) | Event::InlineHtml(part) => self.links.extend(sources(&part)),
                Event::End(TagEnd::Heading(_) | TagEnd::CodeBlock) => {
                    match std::mem::replace(&mut inside, Inside::Prose) {
                        Inside::Heading(title) => {
                            self.anchors.insert(anchor(&title, &mut titles));
                        }
                        Inside::Block(block) => {
                            self.blocks.push(block);
                            follows = true;
                            continue;
                        }
                        Inside::Prose => {}
                    }
                }
                _ => {}
            }
            follows = false;
        }
    }
}

/// The element that contains the text of an event.
enum Inside {
    Prose,
    Heading(String),
    Block(Block),
}

impl Inside {
    fn extend(&mut self, part: &CowStr<'_>) {
        match self {
            Self::Prose => {}
            Self::Heading(text) | Self::Block(Block { text, .. }) => text.push_str(part),
        }
    }
}

/// Adds the Markdown files below a directory.
fn collect(directory: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_dir() && !["target", ".git", ".venv", "node_modules"].contains(&name) {
            collect(&path, paths);
        } else if name.ends_with(".md") && path.is_file() {
            paths.push(path);
        }
    }
}

/// Returns the anchor that GitHub gives to a heading: headings with the same title get different
/// numbers.
fn anchor(title: &str, titles: &mut HashMap<String, u32>) -> String {
    let kept = title.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
    let base: String = kept.collect::<String>().trim().to_lowercase().replace(' ', "-");
    let count = titles.entry(base.clone()).or_default();
    *count += 1;
    if *count == 1 { base } else { format!("{base}-{}", *count - 1) }
}

/// Returns the targets of the attributes in a piece of HTML.
fn sources(html: &str) -> Vec<String> {
    let values = ["src=\"", "srcset=\"", "href=\""].into_iter().flat_map(|name| {
        html.split(name).skip(1).filter_map(|rest| rest.split_once('"').map(|(value, _)| value))
    });
    values.map(str::to_owned).collect()
}
