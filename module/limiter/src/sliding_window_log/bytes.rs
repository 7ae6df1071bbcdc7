//! The bytes of a sliding window log and of its effects.

use super::{LogEffect, SlidingWindowLog};
use crate::codec::{self, DecodeError, Encode, Fields, Kind};
use crate::limits::Window;
use crate::math::Exact;
use crate::noted_window::NotedWindow;
use crate::time::Instant;
use crate::varint;

/// Three to eight bytes for each entry.
impl Encode for SlidingWindowLog {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        let (first, latest) = (self.grants.newest_first(), self.grants.newest_time());
        let window = self.window.window().as_millis();
        if self.is_in_debt() {
            let age = first.map_or(0, |first| latest.micros_since(first).plus(1));
            codec::put(bytes, Kind::SlidingWindowLogInDebt, &[window, age]);
        } else if first == Some(latest) {
            codec::put(bytes, Kind::SlidingWindowLog, &[window]);
        } else {
            let age = first.map_or(0, |first| latest.micros_since(first));
            codec::put(bytes, Kind::SlidingWindowLogWithAge, &[window, age]);
        }
        let mut last = Instant::EPOCH;
        for grant in self.grants.iter() {
            varint::put(bytes, grant.time.micros_since(last));
            varint::put(bytes, u64::from(grant.units));
            last = grant.time;
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match LogEffect::decode(bytes)? {
            LogEffect::Whole(log) => Ok(log),
            _ => Err(DecodeError::Malformed),
        }
    }
}

impl Encode for LogEffect {
    fn encode(&self, bytes: &mut impl Extend<u8>) {
        match self {
            Self::Whole(log) => log.encode(bytes),
            Self::Grant { time, window, units } => {
                let fields = [time.as_micros(), window.as_millis(), u64::from(units.get())];
                codec::put(bytes, Kind::GrantOfLog, &fields);
            }
            Self::OtherGrant { time, window, units, resolution, joins } => {
                let resolution = resolution.map_or(0, Window::as_millis);
                let (time, units) = (time.as_micros(), u64::from(units.get()));
                let fields = [time, window.as_millis(), units, resolution, u64::from(*joins)];
                codec::put(bytes, Kind::OtherGrantOfLog, &fields);
            }
            Self::Return { time, granted_at, units } => {
                let fields = [time.as_micros(), granted_at.as_micros(), u64::from(units.get())];
                codec::put(bytes, Kind::ReturnToLog, &fields);
            }
            Self::Refund { time, units } => {
                let fields = [time.as_micros(), u64::from(units.get())];
                codec::put(bytes, Kind::RefundOfLog, &fields);
            }
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let (kind, mut fields) = codec::read(bytes)?;
        let effect = match kind {
            Kind::SlidingWindowLog => SlidingWindowLog::read(&mut fields).map(Self::Whole),
            Kind::SlidingWindowLogWithAge => {
                SlidingWindowLog::read_with_age(&mut fields).map(Self::Whole)
            }
            Kind::SlidingWindowLogInDebt => {
                SlidingWindowLog::read_in_debt(&mut fields).map(Self::Whole)
            }
            Kind::GrantOfLog => Self::read_grant(&mut fields),
            Kind::OtherGrantOfLog => Self::read_other_grant(&mut fields),
            Kind::ReturnToLog => Self::read_return(&mut fields),
            Kind::RefundOfLog => Self::read_refund(&mut fields),
            _ => None,
        };
        fields.end(effect)
    }
}

impl LogEffect {
    fn read_grant(fields: &mut Fields<'_>) -> Option<Self> {
        let (time, window, units) = (fields.time()?, fields.window()?, fields.units()?);
        Some(Self::Grant { time, window, units })
    }

    fn read_other_grant(fields: &mut Fields<'_>) -> Option<Self> {
        let (time, window, units) = (fields.time()?, fields.window()?, fields.units()?);
        let resolution = match fields.integer()? {
            0 => None,
            millis => Some(Window::from_millis(millis)?),
        };
        Some(Self::OtherGrant { time, window, units, resolution, joins: fields.flag()? })
    }

    fn read_return(fields: &mut Fields<'_>) -> Option<Self> {
        let (time, granted_at, units) = (fields.time()?, fields.time()?, fields.units()?);
        Some(Self::Return { time, granted_at, units })
    }

    fn read_refund(fields: &mut Fields<'_>) -> Option<Self> {
        let (time, units) = (fields.time()?, fields.units()?);
        Some(Self::Refund { time, units })
    }
}

impl SlidingWindowLog {
    /// Returns the log of which these are the fields, if they are within their bounds.
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let window = fields.window()?;
        Self::read_entries(window, fields).filter(|log| !log.is_in_debt())
    }

    fn read_with_age(fields: &mut Fields<'_>) -> Option<Self> {
        let (window, age) = (fields.window()?, fields.integer()?);
        let log = Self::read_entries(window, fields)?.with_age((age > 0).then_some(age))?;
        (!log.is_in_debt()).then_some(log)
    }

    fn read_in_debt(fields: &mut Fields<'_>) -> Option<Self> {
        let (window, age) = (fields.window()?, fields.integer()?);
        let log = Self::read_entries(window, fields)?.with_age(age.checked_sub(1))?;
        log.is_in_debt().then_some(log)
    }

    /// Returns the log with this age of the first grant in its newest entry, if it is not before
    /// the epoch.
    fn with_age(mut self, age: Option<u64>) -> Option<Self> {
        let latest = self.grants.newest_time().as_micros();
        let first = latest.checked_sub(age.unwrap_or(0))?;
        self.grants.set_newest_first(age.is_some().then_some(Instant::from_micros(first)));
        Some(self)
    }

    fn read_entries(window: Window, fields: &mut Fields<'_>) -> Option<Self> {
        let mut log = Self { window: NotedWindow::new(window), ..Self::new() };
        let (mut time, mut total) = (Instant::EPOCH, 0_u32);
        while !fields.is_empty() {
            let step = fields.integer()?;
            let next =
                time.as_micros().checked_add(step).filter(|&t| t <= Instant::MAX.as_micros());
            time = Instant::from_micros(next.filter(|_| step > 0 || log.is_empty())?);
            let units = fields.used()?;
            total = total.checked_add(units)?;
            log.grants.push(time, units);
        }
        (!log.is_empty()).then_some(log)
    }
}
