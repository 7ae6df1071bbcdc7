//! The example for Rust of docs/clients.md, which shows it from the next line on.

use std::{env, time::Duration};

fn main() -> redis::RedisResult<()> {
    let url = env::var("REDIS_URL").unwrap_or_else(|_| "redis://localhost:6379/".to_owned());
    let mut connection = redis::Client::open(url)?.get_connection()?;
    connection.set_read_timeout(Some(Duration::from_secs(1)))?;

    for _ in 0..4 {
        let [granted, _limit, remaining, retry_after_ms, _reset_after_ms]: [i64; 5] =
            redis::cmd("RATELIMIT.TB").arg("login:alice").arg(3).arg(60).query(&mut connection)?;
        match granted {
            0 => println!("wait {retry_after_ms} ms"),
            _ => println!("{remaining} left"),
        }
    }
    Ok(())
}
