use proptest::prelude::*;

use super::bytes;

const FIRST: &str = include_str!("examples/first.yaml");
const LARGER: &str = include_str!("examples/larger.yaml");

/// Bytes of which many are a request that reads like one.
fn requests() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        "(method|host|target|header\\.x-user|header\\.x-key|header\\.plan|plan|user|query\\.q|query\\.cost|path|\
         client\\.ip|remote_address|cost):[ -~]{0,40}",
        "target:/[ab%2./\\\\;?&=q0-9cost{}|~-]{0,30}",
        "target:/\\?cost=[-0-9]{0,25}",
    ];
    let text = prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n").into_bytes());
    prop_oneof![4 => text, 1 => prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn no_bytes_of_an_end_user_change_a_denial(request in requests()) {
        bytes::written_by_an_end_user(&request);
    }

    #[test]
    fn a_file_with_any_changed_bytes_is_refused_or_judges(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        first in any::<bool>(),
        request in requests(),
    ) {
        let mut file = if first { FIRST } else { LARGER }.as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        file.push(0);
        file.extend(request);
        bytes::loaded(&file);
    }
}
