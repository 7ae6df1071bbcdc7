//! The bytes of reservations and of their effects.

use alloc::vec::Vec;

use super::{Estimate, Origin, Reservation, ReservationEffect};
use crate::calendar::{Anchor, Bounds, Period};
use crate::codec::{self, DecodeError, Encode, Fields, Kind};
use crate::fixed_window::FixedLimit;
use crate::limits::{Limit, Units, Window};
use crate::math::Exact;
use crate::varint;

/// Some thirty bytes for each estimate, and the name of its key.
impl Encode for Reservation {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        codec::put(bytes, Kind::Reservation, &[self.end.as_micros()]);
        for estimate in &self.estimates {
            varint::put(bytes, estimate.key.len() as u64);
            bytes.extend(estimate.key.iter().copied());
            varint::put(bytes, u64::from(estimate.cost.get()));
            put_origin(bytes, &estimate.origin);
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match ReservationEffect::decode(bytes)? {
            ReservationEffect::Whole(reservation) => Ok(reservation),
            ReservationEffect::Extension { .. } => Err(DecodeError::Malformed),
        }
    }
}

impl Encode for ReservationEffect {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        match self {
            Self::Whole(reservation) => reservation.encode(bytes),
            Self::Extension { time, end } => {
                codec::put(bytes, Kind::Extension, &[time.as_micros(), end.as_micros()]);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = codec::read(bytes)?;
        let effect = match kind {
            Kind::Reservation => read_reservation(&mut fields).map(Self::Whole),
            Kind::Extension => read_extension(&mut fields),
            _ => None,
        };
        fields.end(effect)
    }
}

fn put_all(bytes: &mut impl Extend<u8>, fields: &[u64]) {
    for &field in fields {
        varint::put(bytes, field);
    }
}

fn put_origin(bytes: &mut impl Extend<u8>, origin: &Origin) {
    let units = |units: Units| u64::from(units.get());
    match origin {
        Origin::TokenBucket { limit: Limit { limit, window, capacity } } => {
            put_all(bytes, &[1, units(*limit), window.as_millis(), units(*capacity)]);
        }
        Origin::SlidingWindowLog { limit, resolution, granted_at } => {
            let resolution = resolution.map_or(0, Window::as_millis);
            let (limit, window) = (units(limit.limit), limit.window.as_millis());
            put_all(bytes, &[2, limit, window, resolution, granted_at.as_micros()]);
        }
        Origin::FixedWindow { limit: FixedLimit { limit, period }, bounds } => {
            put_all(bytes, &[3, units(*limit)]);
            put_bounds(bytes, *bounds);
            match period {
                Period::Length(window, anchor) => {
                    put_all(bytes, &[0, window.as_millis(), anchor.as_secs()]);
                }
                Period::Day => put_all(bytes, &[1]),
                Period::Week => put_all(bytes, &[2]),
                Period::Month => put_all(bytes, &[3]),
                Period::Year => put_all(bytes, &[4]),
                Period::Bounds(bounds) => {
                    put_all(bytes, &[5]);
                    put_bounds(bytes, *bounds);
                }
            }
        }
    }
}

fn put_bounds(bytes: &mut impl Extend<u8>, bounds: Bounds) {
    let (begin, end) = (bounds.begin_millis(), bounds.end_millis());
    put_all(bytes, &[begin, end.minus(begin)]);
}

fn read_reservation(fields: &mut Fields<'_>) -> Option<Reservation> {
    let end = fields.time()?;
    let mut estimates = Vec::new();
    while !fields.is_empty() {
        let len = usize::try_from(fields.integer()?).ok()?;
        let (key, cost) = (fields.bytes(len)?.to_vec(), fields.units()?);
        estimates.push(Estimate { key, cost, origin: read_origin(fields)? });
    }
    // The ttl does not matter here, as the end is known.
    let reservation = Reservation::new(estimates, Window::MIN, end)?;
    Some(Reservation { end, ..reservation })
}

fn read_extension(fields: &mut Fields<'_>) -> Option<ReservationEffect> {
    let (time, end) = (fields.time()?, fields.time()?);
    Some(ReservationEffect::Extension { time, end })
}

fn read_origin(fields: &mut Fields<'_>) -> Option<Origin> {
    Some(match fields.integer()? {
        1 => {
            let (limit, window, capacity) = (fields.units()?, fields.window()?, fields.units()?);
            Origin::TokenBucket { limit: Limit { limit, window, capacity } }
        }
        2 => {
            let limit = Limit::new(fields.units()?, fields.window()?);
            let resolution = match fields.integer()? {
                0 => None,
                millis => Some(Window::from_millis(millis)?),
            };
            Origin::SlidingWindowLog { limit, resolution, granted_at: fields.time()? }
        }
        3 => {
            let (limit, bounds) = (fields.units()?, read_bounds(fields)?);
            let limit = FixedLimit { limit, period: read_period(fields)? };
            Origin::FixedWindow { limit, bounds }
        }
        _ => return None,
    })
}

fn read_period(fields: &mut Fields<'_>) -> Option<Period> {
    Some(match fields.integer()? {
        0 => Period::Length(fields.window()?, Anchor::from_secs(fields.integer()?)?),
        1 => Period::Day,
        2 => Period::Week,
        3 => Period::Month,
        4 => Period::Year,
        5 => Period::Bounds(read_bounds(fields)?),
        _ => return None,
    })
}

fn read_bounds(fields: &mut Fields<'_>) -> Option<Bounds> {
    let (begin, length) = (fields.integer()?, fields.integer()?);
    Bounds::from_millis(begin, begin.checked_add(length)?)
}
