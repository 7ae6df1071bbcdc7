//! The arguments of the commands on leases.

use std::ffi::CStr;

use limiter::{Acquisition, Fences, Holder, Units};

use super::{Args, COST_OPTION, LIMIT, units};
use crate::config;
use crate::ffi::error::Error;
use crate::number;

const HOLDER: &CStr = c"ERR holder must be 1 to 64 bytes";
const RESERVED: &CStr =
    c"ERR holder must not be FENCED, which RENEW and RELEASE read as their option";
const MISPLACED: &CStr = c"ERR FENCED must stand before the holders, once";
const FENCE: &CStr = c"ERR fence must be an integer between 1 and 9007199254740991";
const FENCED: &CStr = c"ERR FENCED must be followed by holders, each with its fence";

/// A lease that a call names: by its holder, and with FENCED by its fence too.
pub(crate) struct NamedLease {
    pub(crate) holder: Holder,
    pub(crate) fence: Option<u64>,
}

impl Args<'_, '_> {
    /// Reads `limit ttl holder [COST cost]`, up to the end.
    pub(crate) fn acquisition(&mut self) -> Result<Acquisition, Error> {
        let (limit, ttl) = (self.units(LIMIT)?, self.ttl()?);
        let name = self.next()?;
        if is_fenced(name) {
            return Err(Error::argument(RESERVED));
        }
        let holder = Holder::new(name).ok_or_else(|| Error::argument(HOLDER))?;
        let mut cost = None;
        while !self.is_at_end() {
            if !self.next()?.eq_ignore_ascii_case(b"COST") {
                return Err(Error::argument(c"ERR options must be COST cost"));
            }
            self.option(&mut cost, &COST_OPTION, units)?;
        }
        let max_leases = config::leases_max()
            .ok_or(Error::Internal(c"ERR internal error: a setting has no value"))?;
        Ok(Acquisition { holder, limit, cost: cost.unwrap_or(Units::MIN), ttl, max_leases })
    }

    /// Reads `[FENCED] holder [fence] [holder [fence] ...]`, up to the end: with FENCED a fence
    /// follows each holder, and without it none does. The word FENCED is never a holder: read as one
    /// after the first holder, it would release that holder's lease without its fence.
    pub(crate) fn named_leases(&mut self) -> Result<Vec<NamedLease>, Error> {
        let is_fenced = self.call.arg(self.next).is_some_and(is_fenced);
        if is_fenced {
            self.next()?;
        }
        let mut leases = Vec::with_capacity(self.call.len().saturating_sub(self.next));
        while leases.is_empty() || !self.is_at_end() {
            if self.call.arg(self.next).is_some_and(self::is_fenced) {
                return Err(Error::argument(MISPLACED));
            }
            if is_fenced && self.call.len() < self.next + 2 {
                return Err(Error::argument(FENCED));
            }
            let holder = self.holder()?;
            let fence = if is_fenced { Some(self.fence()?) } else { None };
            leases.push(NamedLease { holder, fence });
        }
        Ok(leases)
    }

    fn holder(&mut self) -> Result<Holder, Error> {
        Holder::new(self.next()?).ok_or(Error::argument(HOLDER))
    }

    fn fence(&mut self) -> Result<u64, Error> {
        let fence = number::integer(self.next()?);
        fence.filter(|fence| (1..=Fences::MAX).contains(fence)).ok_or(Error::argument(FENCE))
    }
}

/// Returns true for the option of RENEW and RELEASE, which is no holder.
fn is_fenced(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"FENCED")
}
