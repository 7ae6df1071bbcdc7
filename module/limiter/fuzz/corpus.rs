//! The corpus of the fuzzers: its files, and the form of their bytes.

use std::fs;
use std::path::{Path, PathBuf};

/// Returns the entries of one folder of the corpus, with their files.
pub(crate) fn entries(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
    assert!(paths.len() > 10, "{folder:?} holds a corpus");
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Returns the pieces of an entry in the folder `applied`: a value, then calls and effects. One
/// byte with the length precedes each piece.
pub(crate) fn pieces(mut entry: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&length, rest) = entry.split_first()?;
        let (piece, rest) = rest.split_at(usize::from(length).min(rest.len()));
        entry = rest;
        Some(piece)
    })
}
