//! Redis as a URL: which servers make it up, and how to log in.
//!
//! ```text
//! redis://[user:password@]host[:port][/db]             rediss:// for TLS
//! unix:///path[?db=..&user=..&pass=..]
//! redis+sentinel://[user:password@]host[:port][,host[:port]...]/primary-name[/db]
//!                 [?sentinel_user=..&sentinel_password=..]
//! redis+cluster://[user:password@]host[:port][,host[:port]...]
//! memory://
//! ```

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};

use super::rule::Rule;
use crate::store::{Location, SentinelTopology, Topology};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// Where states are kept, as a URL, or nothing. It can hold a password and is never shown.
pub(super) struct RedisUrl;

impl Rule for RedisUrl {
    type Value = Option<Location>;

    fn range(&self) -> String {
        "a URL of redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster or \
         rediss+cluster, or memory://"
            .to_owned()
    }

    fn parse(&self, text: &str) -> Result<Option<Location>, String> {
        if text.is_empty() {
            return Ok(None);
        }
        if text == "memory://" {
            return Ok(Some(Location::Memory));
        }
        let wrong = || format!("the value is not {}", self.range());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        let topology = match scheme {
            "redis" | "rediss" | "unix" => {
                let server = text.into_connection_info().map_err(|_| wrong())?;
                if matches!(server.addr(), ConnectionAddr::TcpTls { insecure: true, .. }) {
                    let instead = "set REDIS_TLS_CA_FILE to trust an authority of your own";
                    return Err(format!("the value ends with #insecure, which is not: {instead}"));
                }
                Topology::Standalone(Box::new(server))
            }
            "redis+sentinel" => sentinel(&Parts::split(rest, false)?)?,
            "rediss+sentinel" => sentinel(&Parts::split(rest, true)?)?,
            "redis+cluster" => cluster(&Parts::split(rest, false)?)?,
            "rediss+cluster" => cluster(&Parts::split(rest, true)?)?,
            _ => return Err(wrong()),
        };
        Ok(Some(Location::Redis(topology)))
    }
}

/// What a URL with several hosts consists of, after its scheme.
struct Parts<'a> {
    login: RedisConnectionInfo,
    hosts: &'a str,
    /// Without the slash before it.
    path: &'a str,
    query: HashMap<String, String>,
    tls: bool,
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str, tls: bool) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let login = login(&decoded(user)?, &decoded(password)?);
        let query = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Ok(Self { login, hosts, path, query, tls })
    }

    /// The servers, all with one login.
    fn servers(
        &self,
        default_port: u16,
        login: &RedisConnectionInfo,
    ) -> Result<Vec<ConnectionInfo>, String> {
        let named = |text| {
            let (host, port) = place(text, default_port)
                .ok_or("the value has a host that is not NAME, NAME:PORT or [IPv6]:PORT")?;
            server(host, port, self.tls, login.clone())
        };
        self.hosts.split(',').map(named).collect()
    }

    /// Fails when the query has anything but these names.
    fn only(&self, names: &[&str]) -> Result<(), String> {
        if self.query.keys().all(|name| names.contains(&name.as_str())) {
            return Ok(());
        }
        Err(match names {
            [] => "the value has a query, which this kind of URL has not".to_owned(),
            _ => format!("the value has a query with other names than {}", names.join(" and ")),
        })
    }
}

fn sentinel(parts: &Parts<'_>) -> Result<Topology, String> {
    const NAMES: [&str; 2] = ["sentinel_user", "sentinel_password"];
    parts.only(&NAMES)?;
    let [user, password] =
        NAMES.map(|name| parts.query.get(name).map(String::as_str).unwrap_or_default());
    let (name, db) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    let primary_name = decoded(name)?;
    if primary_name.is_empty() {
        return Err("the value has no name of the primary, as in \
                    redis+sentinel://host:26379/primary-name"
            .to_owned());
    }
    Ok(Topology::Sentinel(Box::new(SentinelTopology {
        sentinels: parts.servers(SENTINEL_PORT, &login(user, password))?,
        primary_name,
        login: parts.login.clone().set_db(database(db)?.into()),
    })))
}

fn cluster(parts: &Parts<'_>) -> Result<Topology, String> {
    parts.only(&[])?;
    if database(parts.path)? != 0 {
        return Err("the value has a database, but a cluster has only database 0".to_owned());
    }
    Ok(Topology::Cluster(parts.servers(REDIS_PORT, &parts.login)?))
}

/// A server that is reached by TCP, with or without TLS.
pub(super) fn server(
    host: String,
    port: u16,
    tls: bool,
    login: RedisConnectionInfo,
) -> Result<ConnectionInfo, String> {
    let address = if tls {
        ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let server = address.into_connection_info().map_err(|error| error.to_string())?;
    Ok(server.set_redis_settings(login))
}

/// Who logs in; an empty text counts as none.
pub(super) fn login(user: &str, password: &str) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default();
    if !user.is_empty() {
        login = login.set_username(user);
    }
    if !password.is_empty() {
        login = login.set_password(password);
    }
    login
}

fn database(text: &str) -> Result<u16, String> {
    match text.trim_end_matches('/') {
        "" => Ok(0),
        digits => digits.parse().map_err(|_| {
            format!("the value has a database that is not a number between 0 and {}", u16::MAX)
        }),
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "the value is not UTF-8 when percent-decoded".to_owned())
}

/// A host and its port. An IPv6 address is in brackets.
fn place(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let port = match port {
        "" => default_port,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
    };
    let is_host = !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_graphic());
    is_host.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};

    use super::{RedisUrl, Rule};
    use crate::store::{Location, SentinelTopology, Topology};

    fn topology(url: &str) -> Topology {
        match RedisUrl.parse(url).unwrap() {
            Some(Location::Redis(topology)) => topology,
            other => panic!("{url}: {other:?}"),
        }
    }

    fn sentinel(url: &str) -> SentinelTopology {
        let Topology::Sentinel(topology) = topology(url) else { panic!("{url}") };
        *topology
    }

    fn cluster(url: &str) -> Vec<ConnectionInfo> {
        let Topology::Cluster(seeds) = topology(url) else { panic!("{url}") };
        seeds
    }

    fn addresses(servers: &[ConnectionInfo]) -> Vec<String> {
        servers.iter().map(|server| server.addr().to_string()).collect()
    }

    fn login(login: &RedisConnectionInfo) -> (Option<&str>, Option<&str>, i64) {
        (login.username(), login.password(), login.db())
    }

    fn is_secret(server: &ConnectionInfo) -> bool {
        matches!(server.addr(), ConnectionAddr::TcpTls { insecure: false, .. })
    }

    #[test]
    fn sentinels_are_listed_before_the_name_of_the_primary() {
        let parsed = sentinel("redis+sentinel://a,b:1,[::1],[fe80::1]:2/my%20primary");
        assert_eq!(addresses(&parsed.sentinels), ["a:26379", "b:1", "::1:26379", "fe80::1:2"]);
        assert_eq!(parsed.primary_name, "my primary");
        assert_eq!(login(&parsed.login), (None, None, 0));
        assert!(!parsed.sentinels.iter().any(is_secret));
        assert!(sentinel("rediss+sentinel://a,b/p").sentinels.iter().all(is_secret));
    }

    #[test]
    fn sentinels_and_primaries_have_logins_of_their_own() {
        let url = "redis+sentinel://me:p%40ss:%2F@a/p/7?sentinel_user=it&sentinel_password=s%26t";
        let parsed = sentinel(url);
        assert_eq!(login(&parsed.login), (Some("me"), Some("p@ss:/"), 7));
        let ours = parsed.sentinels.first().unwrap().redis_settings();
        assert_eq!(login(ours), (Some("it"), Some("s&t"), 0));
        assert!(!format!("{parsed:?}").contains("p@ss") && !format!("{parsed:?}").contains("s&t"));
    }

    #[test]
    fn clusters_are_seeds_with_one_login() {
        let seeds = cluster("redis+cluster://:secret@a:7000,b,c:7002/0");
        assert_eq!(addresses(&seeds), ["a:7000", "b:6379", "c:7002"]);
        for seed in &seeds {
            assert_eq!(login(seed.redis_settings()), (None, Some("secret"), 0));
        }
        assert!(cluster("rediss+cluster://a").iter().all(is_secret));
    }

    #[test]
    fn faults_say_what_is_wrong_and_nothing_of_the_value() {
        for (url, fault) in [
            ("redis+sentinel://secret:26379", "no name of the primary"),
            ("redis+sentinel://secret/", "no name of the primary"),
            ("redis+sentinel:///secret", "a host that is not"),
            ("redis+sentinel://a,,b/secret", "a host that is not"),
            ("redis+sentinel://secret:0/p", "a host that is not"),
            ("redis+sentinel://secret:x/p", "a host that is not"),
            ("redis+sentinel://[::1/secret", "a host that is not"),
            ("redis+sentinel://::1/secret", "a host that is not"),
            ("redis+sentinel://a/p/secret", "a database that is not a number"),
            ("redis+sentinel://a/p?secret=1", "sentinel_user and sentinel_password"),
            ("redis+sentinel://%ff:secret@a/p", "not UTF-8"),
            ("redis+cluster://secret/1", "a cluster has only database 0"),
            ("redis+cluster://a?password=secret", "the value has a query"),
            ("redis+cluster://", "a host that is not"),
            ("redis+unknown://secret", "is not a URL of redis, rediss"),
            ("rediss://secret/#insecure", "set REDIS_TLS_CA_FILE"),
            ("secret", "is not a URL of redis, rediss"),
        ] {
            let error = RedisUrl.parse(url).map(|_| url).unwrap_err();
            assert!(error.contains(fault) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
