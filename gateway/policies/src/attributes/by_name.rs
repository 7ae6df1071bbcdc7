//! Attributes that a caller writes by their names in the file.

use std::borrow::Cow;

use serde_json::Value as Json;

use super::claims::WrittenClaim;
use super::value::text_of;
use super::written_name::WrittenName;
use super::{AttributeError, Attributes, ClientAddress};
use crate::attribute::AttributeName;
use crate::host::is_host;

impl<'r> Attributes<'r> {
    /// Sets an attribute that a caller writes by its name in the file.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set(&mut self, name: &str, value: &'r str) -> Result<(), AttributeError> {
        self.set_bytes(name, value.as_bytes())
    }

    /// Sets an attribute that a caller writes by its name in the file, to a value that need not be
    /// UTF-8.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set_bytes(&mut self, name: &str, value: &'r [u8]) -> Result<(), AttributeError> {
        self.write(name, Cow::Borrowed(value))
    }

    /// Sets an attribute that a check carries as text, number or boolean.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name or the value is malformed.
    pub fn set_json(&mut self, name: &str, value: &'r Json) -> Result<(), AttributeError> {
        self.write(name, text_of(value).ok_or(AttributeError::Shape)?)
    }

    /// Sets a claim by its name; for explanations, which take nothing.
    ///
    /// # Errors
    ///
    /// An [`AttributeError`] where the name is not that of a claim.
    pub fn set_claim(&mut self, name: &str, value: &str) -> Result<(), AttributeError> {
        self.write_claim(name, WrittenClaim::Text(value.as_bytes().to_vec()))
    }

    /// Sets a claim that is a list by its name.
    pub(crate) fn set_claim_list(
        &mut self,
        name: &str,
        items: &[String],
    ) -> Result<(), AttributeError> {
        let items = items.iter().map(|item| item.as_bytes().to_vec()).collect();
        self.write_claim(name, WrittenClaim::List(items))
    }

    fn write_claim(&mut self, name: &str, claim: WrittenClaim) -> Result<(), AttributeError> {
        match AttributeName::parse(name).map_err(AttributeError::Name)? {
            name @ AttributeName::Claim(_) => {
                self.written_claims.push((name.to_string(), claim));
                Ok(())
            }
            _ => Err(AttributeError::Name("`jwt.CLAIM`")),
        }
    }

    fn write(&mut self, name: &str, value: Cow<'r, [u8]>) -> Result<(), AttributeError> {
        match AttributeName::parse(name).map_err(AttributeError::Name)? {
            AttributeName::Method => self.set_method(&value),
            AttributeName::Host if is_host(&value) => self.set_host(&value),
            AttributeName::Host => return Err(AttributeError::Host),
            AttributeName::Path => {
                let path = self.form.normalize(&value).map_err(AttributeError::Path)?;
                self.path = Some(path);
            }
            AttributeName::ClientIp(_) => {
                let text = std::str::from_utf8(&value).map_err(|_| AttributeError::Address)?;
                let address = text.parse().map_err(|_| AttributeError::Address)?;
                self.set_client(ClientAddress::Known(address));
            }
            AttributeName::Claim(_) => return Err(AttributeError::Claim),
            AttributeName::Header(name) => self.headers.push((Cow::Owned(name.into()), value)),
            AttributeName::Query(name) => {
                self.words.push((Cow::Owned(format!("query.{name}")), value));
            }
            AttributeName::Word(name) => self.words.push((Cow::Owned(name.into()), value)),
        }
        Ok(())
    }

    /// Returns the names of the words, parameters and headers that a caller wrote.
    pub(crate) fn written_names(&self) -> impl Iterator<Item = WrittenName<'_>> {
        let headers = self.headers.iter().map(|(name, _)| WrittenName::Header(name));
        headers.chain(self.words.iter().map(|(name, _)| WrittenName::Word(name)))
    }
}
