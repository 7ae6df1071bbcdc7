//! Files that would cost too much, for tests and for a bench.

/// A file that is refused.
pub(crate) struct Bomb {
    pub(crate) name: &'static str,
    pub(crate) file: String,
    /// The message.
    pub(crate) refusal: &'static str,
}

/// Returns files with many or large parts, each with the fault that ends its reading.
pub(crate) fn bombs() -> Vec<Bomb> {
    let laughs = {
        let mut file = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = level - 1;
            let aliases = vec![format!("*a{below}"); 10].join(", ");
            file += &format!("a{level}: &a{level} [{aliases}]\n");
        }
        file
    };
    let many_aliases = format!("a: &a x\nb: [{}]\n", vec!["*a"; 1_001].join(", "));
    let open_lists = "[".repeat(1_000_000);
    let open_maps = "{a: ".repeat(1_000_000);
    let indented: String = (0..2_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    let dashes = "- ".repeat(1_000_000);
    let questions = "? ".repeat(1_000_000);
    let many_items = format!("policies: [{}]", "1, ".repeat(5_000_000));
    let many_keys: String = (0..1_000_000).map(|key| format!("k{key}: 1\n")).collect();
    let many_faults = format!("version: 1\npolicies: [{}]", "{a: 1}, ".repeat(1_000_000));
    let large = format!("# {}", "x".repeat(16 << 20));
    [
        (
            "laughs",
            laughs,
            "line 3, column 50: aliases stand for too many values; expected at most 1000 values in all",
        ),
        (
            "many_aliases",
            many_aliases,
            "line 2, column 4005: aliases stand for too many values; expected at most 1000 values in all",
        ),
        (
            "open_lists",
            open_lists,
            "line 1, column 19: lists and maps are nested too deeply; expected at most 16 levels",
        ),
        (
            "open_maps",
            open_maps,
            "line 1, column 73: lists and maps are nested too deeply; expected at most 16 levels",
        ),
        (
            "indented",
            indented,
            "line 17, column 17: lists and maps are nested too deeply; expected at most 16 levels",
        ),
        (
            "dashes",
            dashes,
            "line 1, column 33: lists and maps are nested too deeply; expected at most 16 levels",
        ),
        ("questions", questions, "line 1, column 3: a key that is not text; expected a word"),
        (
            "many_items",
            many_items,
            "line 1, column 30012: too many policies; expected at most 10000 policies",
        ),
        (
            "many_keys",
            many_keys,
            "line 1001, column 8: too many items; expected at most 1000 items",
        ),
        (
            "many_faults",
            many_faults,
            "line 2, column 80012: too many policies; expected at most 10000 policies",
        ),
        ("large", large, "line 1, column 1: the file has 16777218 bytes; expected at most 16 MiB"),
    ]
    .map(|(name, file, refusal)| Bomb { name, file, refusal })
    .into()
}
