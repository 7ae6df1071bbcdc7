//! The bytes of leases and of their effects.

use alloc::vec::Vec;

use super::{LeaseEffect, Leases};
use crate::codec::{self, DecodeError, Encode, Fields, Kind};
use crate::holder::{Fences, Holder};
use crate::lease::Lease;
use crate::time::Instant;
use crate::varint;

/// Some twenty bytes for each lease, and its holder.
impl Encode for Leases {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        codec::put(bytes, Kind::Leases, &[]);
        let mut last = Instant::EPOCH;
        self.index.visit_after(Instant::EPOCH, &mut |lease| {
            varint::put(bytes, lease.expiry.micros_since(last));
            for field in [lease.ttl.as_millis(), u64::from(lease.cost.get()), lease.fence] {
                varint::put(bytes, field);
            }
            put_holder(bytes, &lease.holder);
            last = lease.expiry;
            true
        });
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match LeaseEffect::decode(bytes)? {
            LeaseEffect::Whole(leases) => Ok(leases),
            _ => Err(DecodeError::Malformed),
        }
    }
}

impl Encode for LeaseEffect {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        match self {
            Self::Whole(leases) => leases.encode(bytes),
            Self::Acquisition { time, ttl, cost, fence, holder } => {
                let (time, cost) = (time.as_micros(), u64::from(cost.get()));
                codec::put(bytes, Kind::Acquisition, &[time, ttl.as_millis(), cost, *fence]);
                put_holder(bytes, holder);
            }
            Self::Renewal { time, ttl, holders } => {
                codec::put(bytes, Kind::Renewal, &[time.as_micros(), ttl.as_millis()]);
                for holder in holders {
                    put_holder(bytes, holder);
                }
            }
            Self::Release { time, holders } => {
                codec::put(bytes, Kind::Release, &[time.as_micros()]);
                for holder in holders {
                    put_holder(bytes, holder);
                }
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = codec::read(bytes)?;
        let effect = match kind {
            Kind::Leases => read_leases(&mut fields).map(Self::Whole),
            Kind::Acquisition => read_acquisition(&mut fields),
            Kind::Renewal => read_renewal(&mut fields),
            Kind::Release => read_release(&mut fields),
            _ => None,
        };
        fields.end(effect)
    }
}

fn put_holder(bytes: &mut impl Extend<u8>, holder: &Holder) {
    varint::put(bytes, holder.as_bytes().len() as u64);
    bytes.extend(holder.as_bytes().iter().copied());
}

/// Reads leases in the order of their expiry, and of their holders at the same time.
fn read_leases(fields: &mut Fields<'_>) -> Option<Leases> {
    let mut leases = Leases::new();
    let mut last: Option<Lease> = None;
    while !fields.is_empty() {
        let step = fields.integer()?;
        let before = last.map_or(0, |last| last.expiry.as_micros());
        let expiry = before.checked_add(step).filter(|&time| time <= Instant::MAX.as_micros())?;
        let (ttl, cost, fence) = (fields.window()?, fields.units()?, read_fence(fields)?);
        let holder = read_holder(fields)?;
        let lease = Lease { holder, cost, ttl, expiry: Instant::from_micros(expiry), fence };
        let is_next = last.is_none_or(|last| (last.expiry, last.holder) < (lease.expiry, holder));
        if !is_next || leases.index.find(&holder).is_some() || expiry == 0 {
            return None;
        }
        leases.index.insert(&lease);
        last = Some(lease);
    }
    last.map(|_| leases)
}

fn read_acquisition(fields: &mut Fields<'_>) -> Option<LeaseEffect> {
    let (time, ttl, cost) = (fields.time()?, fields.window()?, fields.units()?);
    let (fence, holder) = (read_fence(fields)?, read_holder(fields)?);
    Some(LeaseEffect::Acquisition { time, ttl, cost, fence, holder })
}

fn read_renewal(fields: &mut Fields<'_>) -> Option<LeaseEffect> {
    let (time, ttl) = (fields.time()?, fields.window()?);
    Some(LeaseEffect::Renewal { time, ttl, holders: read_holders(fields)? })
}

fn read_release(fields: &mut Fields<'_>) -> Option<LeaseEffect> {
    Some(LeaseEffect::Release { time: fields.time()?, holders: read_holders(fields)? })
}

fn read_holders(fields: &mut Fields<'_>) -> Option<Vec<Holder>> {
    let mut holders = Vec::new();
    while !fields.is_empty() {
        holders.push(read_holder(fields)?);
    }
    (!holders.is_empty()).then_some(holders)
}

fn read_holder(fields: &mut Fields<'_>) -> Option<Holder> {
    let len = usize::try_from(fields.integer()?).ok()?;
    Holder::new(fields.bytes(len)?)
}

fn read_fence(fields: &mut Fields<'_>) -> Option<u64> {
    fields.integer().filter(|fence| (1..=Fences::MAX).contains(fence))
}
