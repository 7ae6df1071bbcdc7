//! Attributes from the descriptors of Envoy.

use std::borrow::Cow;

use super::{Attributes, ClientAddress};
use crate::attribute::AttributeName;

impl<'r> Attributes<'r> {
    /// Adds an entry of a descriptor, or the domain, of Envoy's rate limit service. Entries with
    /// equal keys are joined by `/`. No entry causes an error, because the end user may have
    /// written the entry.
    pub fn add_descriptor_entry(&mut self, key: &'r str, value: &'r [u8]) {
        match AttributeName::parse(key) {
            Ok(AttributeName::Claim(_)) => {}
            Ok(AttributeName::Path) => self.path = Some(self.form.normalize_leniently(value)),
            Ok(AttributeName::Method) => self.set_method(value),
            Ok(AttributeName::Host) => self.set_host(value),
            Ok(AttributeName::ClientIp(_)) => self.set_descriptor_address(value),
            Ok(AttributeName::Header(name)) => {
                let place = self.headers.iter_mut().find(|(known, _)| **known == *name);
                match place {
                    Some((_, known)) => join(known, value),
                    None => self.headers.push((Cow::Owned(name.into()), value.into())),
                }
            }
            _ if key == "remote_address" => self.set_descriptor_address(value),
            _ => match self.words.iter_mut().find(|(known, _)| known == key) {
                Some((_, known)) => join(known, value),
                None => self.words.push((key.into(), value.into())),
            },
        }
    }

    fn set_descriptor_address(&mut self, value: &[u8]) {
        let address = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        self.set_client(address.map_or(ClientAddress::Missing, ClientAddress::Known));
    }
}

fn join(known: &mut Cow<'_, [u8]>, value: &[u8]) {
    let known = known.to_mut();
    known.push(b'/');
    known.extend(value);
}
