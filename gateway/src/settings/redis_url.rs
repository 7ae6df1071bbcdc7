//! Redis as a URL: the servers, and the login.
//!
//! ```text
//! redis://[[user]:password@]host[:port][/db]
//! redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/primary-name[/db]
//!                 [?sentinel_user=..&sentinel_password=..]
//! redis+cluster://[[user]:password@]host[:port][,host[:port]...]
//! unix:///path[?db=..&user=..&pass=..]
//! memory://
//! ```
//!
//! `rediss` in place of `redis` uses TLS. `valkey` and `valkeys` have the same meanings. A part that
//! would be ignored is refused: the operator relies on it.

use std::collections::HashMap;

use percent_encoding::percent_decode_str;
use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo};
use store::{Location, SentinelTopology, Topology};

use super::rule::{Range, is_host};

const REDIS_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

/// The place of states as a URL. Messages do not repeat the text: it can hold a password.
#[derive(Clone)]
pub(super) struct RedisUrl;

impl Range for RedisUrl {
    type Value = Location;

    fn range(&self) -> String {
        "a URL of redis, rediss, redis+sentinel, rediss+sentinel, redis+cluster or \
         rediss+cluster, each also with valkey for redis, or of unix, or memory://"
            .to_owned()
    }

    fn parse(&self, text: &str) -> Result<Location, String> {
        if text == "memory://" {
            return Ok(Location::Memory);
        }
        let wrong = || format!("the value is not {}", self.range());
        let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
        if let Some((_, fragment)) = rest.split_once('#') {
            return Err(fragment_error(fragment));
        }
        let (server, kind) = scheme.split_once('+').unwrap_or((scheme, ""));
        let tls = match server {
            "redis" | "valkey" => false,
            "rediss" | "valkeys" => true,
            "unix" if kind.is_empty() => return unix(rest).map(Location::Redis),
            _ => return Err(wrong()),
        };
        let topology = match kind {
            "" => standalone(&Parts::split(rest, tls)?)?,
            "sentinel" => sentinel(&Parts::split(rest, tls)?)?,
            "cluster" => cluster(&Parts::split(rest, tls)?)?,
            "unix" if !tls => unix(rest)?,
            _ => return Err(wrong()),
        };
        Ok(Location::Redis(topology))
    }
}

/// Returns the error of a URL with a `#`. Client libraries ignore the rest, or use it as an option.
fn fragment_error(fragment: &str) -> String {
    match fragment {
        "insecure" => {
            "the value ends with #insecure, which is not supported: set \
                       REDIS_TLS_CA_FILE to trust an authority of your own"
        }
        _ => {
            "the value has a #, after which a URL of Redis has nothing: write %23 for a # in a \
              password"
        }
    }
    .to_owned()
}

/// The parts of a URL with hosts, after its scheme.
struct Parts<'a> {
    login: RedisConnectionInfo,
    hosts: &'a str,
    /// The path without its first slash.
    path: &'a str,
    query: HashMap<String, String>,
    tls: bool,
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str, tls: bool) -> Result<Self, String> {
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if path.contains('@') {
            // The password would end at the slash, and its first half would be a host.
            return Err("the value has an @ after a /: write %2F for a / in a password, and %40 \
                        for an @ elsewhere"
                .to_owned());
        }
        let (user, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
        let (user, password) = user.split_once(':').unwrap_or((user, ""));
        let login = complete_login(&decoded(user)?, &decoded(password)?)?;
        Ok(Self { login, hosts, path, query: pairs(query)?, tls })
    }

    /// Returns the servers, all with one login.
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
}

/// Returns the names and values of a query. A repeated name is refused: only one value could count.
fn pairs(query: &str) -> Result<HashMap<String, String>, String> {
    let mut pairs = HashMap::new();
    check_codes(query)?;
    for (name, value) in form_urlencoded::parse(query.as_bytes()).into_owned() {
        if pairs.insert(name, value).is_some() {
            return Err("the value has a query with a repeated name".to_owned());
        }
    }
    Ok(pairs)
}

/// Fails when the query has anything but these names.
fn only(query: &HashMap<String, String>, names: &[&str]) -> Result<(), String> {
    if query.keys().all(|name| names.contains(&name.as_str())) {
        return Ok(());
    }
    Err(match names {
        [] => "a query (?...) is not allowed here: the database is a path, as in redis://host/3"
            .to_owned(),
        _ => format!("the value has a query with other names than {}", names.join(" and ")),
    })
}

fn standalone(parts: &Parts<'_>) -> Result<Topology, String> {
    only(&parts.query, &[])?;
    let login = parts.login.clone().set_db(database(parts.path)?.into());
    let mut servers = parts.servers(REDIS_PORT, &login)?;
    match (servers.pop(), servers.is_empty()) {
        (Some(server), true) => Ok(Topology::Standalone(Box::new(server))),
        _ => Err("the value has several hosts, which only redis+sentinel:// and redis+cluster:// \
                  have"
            .to_owned()),
    }
}

/// Returns a server on this machine. `rest` is the URL without its scheme.
fn unix(rest: &str) -> Result<Topology, String> {
    const NAMES: [&str; 3] = ["db", "user", "pass"];
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if !path.starts_with('/') {
        return Err("the value has no path from the root, as in unix:///run/redis.sock".to_owned());
    }
    let query = pairs(query)?;
    only(&query, &NAMES)?;
    let [db, user, password] = NAMES.map(|name| query.get(name).map_or("", String::as_str));
    let login = complete_login(user, password)?.set_db(database(db)?.into());
    let address = ConnectionAddr::Unix(decoded(path)?.into());
    let server = address.into_connection_info().map_err(|error| error.to_string())?;
    Ok(Topology::Standalone(Box::new(server.set_redis_settings(login))))
}

fn sentinel(parts: &Parts<'_>) -> Result<Topology, String> {
    const NAMES: [&str; 2] = ["sentinel_user", "sentinel_password"];
    only(&parts.query, &NAMES)?;
    let [user, password] = NAMES.map(|name| parts.query.get(name).map_or("", String::as_str));
    let (name, db) = parts.path.split_once('/').unwrap_or((parts.path, ""));
    let primary_name = decoded(name)?;
    if primary_name.is_empty() {
        return Err("the value has no name of the primary, as in \
                    redis+sentinel://host:26379/primary-name"
            .to_owned());
    }
    Ok(Topology::Sentinel(Box::new(SentinelTopology {
        sentinels: parts.servers(SENTINEL_PORT, &complete_login(user, password)?)?,
        primary_name,
        login: parts.login.clone().set_db(database(db)?.into()),
    })))
}

fn cluster(parts: &Parts<'_>) -> Result<Topology, String> {
    only(&parts.query, &[])?;
    if database(parts.path)? != 0 {
        return Err("the value has a database, but a cluster has only database 0".to_owned());
    }
    Ok(Topology::Cluster(parts.servers(REDIS_PORT, &parts.login)?))
}

/// Returns a server with an address of TCP, with or without TLS.
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

/// Returns the login of a URL. Redis takes no user without a password: the login would be that of the
/// default user.
fn complete_login(user: &str, password: &str) -> Result<RedisConnectionInfo, String> {
    if !user.is_empty() && password.is_empty() {
        return Err(
            "the value has a user without a password: write user:password@, or :password@ \
                    for the default user"
                .to_owned(),
        );
    }
    Ok(login(user, password))
}

/// Returns a login. An empty text counts as none.
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

/// Fails for a `%` that begins no code: the libraries take it as it stands, and the operator may have
/// forgotten to encode it.
fn check_codes(text: &str) -> Result<(), String> {
    let is_code = |after: &str| after.bytes().take(2).filter(u8::is_ascii_hexdigit).count() == 2;
    if text.split('%').skip(1).all(is_code) {
        return Ok(());
    }
    Err("the value has a % without two hexadecimal digits: write %25 for a %".to_owned())
}

fn decoded(text: &str) -> Result<String, String> {
    check_codes(text)?;
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| "the value is not UTF-8 when percent-decoded".to_owned())
}

/// Returns a host and its port. An IPv6 address is in brackets.
fn place(text: &str, default_port: u16) -> Option<(String, u16)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => text.find(':').map_or((text, ""), |colon| text.split_at(colon)),
    };
    let port = match port {
        "" => default_port,
        port => port.strip_prefix(':')?.parse().ok().filter(|port| *port > 0)?,
    };
    // Only a host with colons has brackets, and needs them.
    let is_place = is_host(host) && host.contains(':') == text.starts_with('[');
    is_place.then(|| (host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use redis::{ConnectionAddr, ConnectionInfo, RedisConnectionInfo};
    use store::{Location, SentinelTopology, Topology};

    use super::{Range, RedisUrl};

    fn topology(url: &str) -> Topology {
        match RedisUrl.parse(url).unwrap() {
            Location::Redis(topology) => topology,
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

    fn standalone(url: &str) -> ConnectionInfo {
        let Topology::Standalone(server) = topology(url) else { panic!("{url}") };
        *server
    }

    #[test]
    fn one_server_has_a_login_and_a_database() {
        for (url, address, expected) in [
            ("redis://a", "a:6379", (None, None, 0)),
            ("redis://a/", "a:6379", (None, None, 0)),
            ("redis://a:1/3", "a:1", (None, None, 3)),
            ("redis://[::1]:2", "::1:2", (None, None, 0)),
            ("redis://:p%23%40%2F@a", "a:6379", (None, Some("p#@/"), 0)),
            ("redis://me:p@ss@a/1/", "a:6379", (Some("me"), Some("p@ss"), 1)),
            ("valkey://me:p@a", "a:6379", (Some("me"), Some("p"), 0)),
            ("unix:///run/a%20b@c", "/run/a b@c", (None, None, 0)),
            ("unix:///r?db=3&user=me&pass=p%26q", "/r", (Some("me"), Some("p&q"), 3)),
            ("redis+unix:///r", "/r", (None, None, 0)),
            ("valkey+unix:///r", "/r", (None, None, 0)),
        ] {
            let server = standalone(url);
            assert_eq!(server.addr().to_string(), address, "{url}");
            assert_eq!(login(server.redis_settings()), expected, "{url}");
            assert!(!is_secret(&server), "{url}");
        }
        assert!(is_secret(&standalone("rediss://a")) && is_secret(&standalone("valkeys://a")));
    }

    #[test]
    fn valkey_is_another_name_of_redis() {
        let parsed = sentinel("valkey+sentinel://a/p");
        assert_eq!(addresses(&parsed.sentinels), ["a:26379"]);
        assert!(sentinel("valkeys+sentinel://a/p").sentinels.iter().all(is_secret));
        assert!(!cluster("valkey+cluster://a").iter().any(is_secret));
        assert!(cluster("valkeys+cluster://a").iter().all(is_secret));
    }

    #[test]
    fn errors_name_the_rule_and_no_part_of_the_value() {
        for (url, rule) in [
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
            ("redis://u:%zzsecret@host", "write %25 for a %"),
            ("redis://u:secret%2@host", "write %25 for a %"),
            ("unix:///run/secret%", "write %25 for a %"),
            ("redis+sentinel://a/secret%x", "write %25 for a %"),
            ("redis+sentinel://a/p?sentinel_password=secret%", "write %25 for a %"),
            ("redis+cluster://secret/1", "a cluster has only database 0"),
            ("redis+cluster://a?password=secret", "a query (?...) is not allowed here"),
            ("redis+cluster://", "a host that is not"),
            ("redis+unknown://secret", "is not a URL of redis, rediss"),
            ("rediss+unix:///secret", "is not a URL of redis, rediss"),
            ("unix+sentinel://secret", "is not a URL of redis, rediss"),
            ("valkeyss://secret", "is not a URL of redis, rediss"),
            ("rediss://secret/#insecure", "set REDIS_TLS_CA_FILE"),
            ("redis://secret:1#secret@host", "write %23 for a #"),
            ("redis://:secret#secret@host", "write %23 for a #"),
            ("redis://host#secret", "write %23 for a #"),
            ("redis+cluster://:secret#@host", "write %23 for a #"),
            ("redis+sentinel://a/secret#", "write %23 for a #"),
            ("unix:///run/redis.sock#secret", "write %23 for a #"),
            ("redis://secret:1/secret@host", "write %2F for a /"),
            ("redis+sentinel://secret:1/secret@host/p", "write %2F for a /"),
            ("redis://host?db=3", "the database is a path"),
            ("redis://host?protocol=resp3", "the database is a path"),
            ("redis://u:1?secret@host", "a query (?...) is not allowed here"),
            ("redis://host/secret", "a database that is not a number"),
            ("redis://host/-1", "a database that is not a number"),
            ("redis://host/1/secret", "a database that is not a number"),
            ("redis://a,b", "several hosts"),
            ("redis://", "a host that is not"),
            ("redis://:secret@", "a host that is not"),
            ("redis://:secret@host:port", "a host that is not"),
            ("redis://host:0", "a host that is not"),
            ("redis://::1", "a host that is not"),
            ("redis://[secret]", "a host that is not"),
            ("redis://se cret", "a host that is not"),
            ("redis://secret@host", "a user without a password"),
            ("redis://secret:@host", "a user without a password"),
            ("redis+cluster://secret@host", "a user without a password"),
            ("redis+sentinel://a/p?sentinel_user=secret", "a user without a password"),
            ("unix:///run/redis.sock?user=secret", "a user without a password"),
            ("unix:///run/redis.sock?password=secret", "db and user and pass"),
            ("unix:///run/redis.sock?db=1&db=2", "a repeated name"),
            ("unix:///run/redis.sock?db=secret", "a database that is not a number"),
            ("unix://:secret@/run/redis.sock", "no path from the root"),
            ("unix://", "no path from the root"),
            ("redis+sentinel://a/p?sentinel_password=s&sentinel_password=secret", "repeated name"),
            ("secret", "is not a URL of redis, rediss"),
        ] {
            let error = RedisUrl.parse(url).map(|_| url).unwrap_err();
            assert!(error.contains(rule) && !error.contains("secret"), "{url}: {error}");
        }
    }
}
