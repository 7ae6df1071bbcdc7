//! Connections to Redis: TCP and Unix sockets, TLS, passwords and users.

use tempfile::TempDir;

use crate::harness::{Authority, Builder, Certificate, Gateway, GatewayBuilder, Server, free_port};

/// Asserts that a gateway with these settings decides in Redis.
fn assert_serves(settings: GatewayBuilder, server: &Server) {
    let gateway = settings.start();
    gateway.wait_until_redis_decides("someone");
    assert_eq!(server.client().call::<i64>("EXISTS token_bucket:{someone}"), 1);
    assert_eq!(gateway.get("/health/ready").status, 200);
}

/// Asserts that a gateway with these settings decides nothing, and logs this advice.
fn assert_advises(settings: GatewayBuilder, advice: &str) -> Gateway {
    let gateway = settings.start();
    assert_eq!(gateway.check("someone").status, 503);
    gateway.log_with(advice);
    gateway
}

#[test]
fn a_unix_socket_is_used() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("redis.sock");
    let path = path.to_str().unwrap();
    let server = Server::builder().config("unixsocket", path).start();
    assert_serves(Gateway::builder().env("REDIS_URL", &format!("unix://{path}")), &server);
}

#[test]
fn users_need_the_commands_and_their_keys_only() {
    let server = Server::start();
    server.client().call::<()>(
        "ACL SETUSER app ON >p@ss:/%word ~app:* -@all +ratelimit.tb +ratelimit.sw \
         +ratelimit.peek +ratelimit.refund +ratelimit.reset",
    );
    let prefixed = || Gateway::builder().env("KEY_PREFIX", "app:");
    let parts = |password| {
        let user = prefixed().env("REDIS_HOST", "127.0.0.1").env("REDIS_USERNAME", "app");
        user.env("REDIS_PASSWORD", password).env("REDIS_PORT", &server.port().to_string())
    };
    let url = format!("redis://app:p%40ss%3A%2F%25word@127.0.0.1:{}/", server.port());
    for settings in [parts("p@ss:/%word"), prefixed().env("REDIS_URL", &url)] {
        let gateway = settings.start();
        assert_eq!(gateway.check("someone").status, 200);
        assert_eq!(gateway.get("/health/ready").status, 200);
        assert_eq!(gateway.delete("/rate-limit/reset/someone").status, 200);
    }

    let gateway = assert_advises(parts("wrong-one"), "check REDIS_USERNAME and REDIS_PASSWORD");
    assert!(!gateway.log().contains("wrong-one"), "{}", gateway.log());
    let gateway = assert_advises(
        Gateway::builder().env("REDIS_URL", &url),
        "give the Redis user the RATELIMIT commands and access to the keys",
    );
    assert!(gateway.get("/health").body.contains(r#""redis_connected":true"#));
}

#[test]
fn a_missing_password_is_reported_and_recovered_from_without_a_restart() {
    let server = Server::builder().password("secret").start();
    let url = format!("redis://127.0.0.1:{}/", server.port());
    let advice = "check REDIS_USERNAME and REDIS_PASSWORD";
    let gateway = assert_advises(Gateway::builder().env("REDIS_URL", &url), advice);
    server.client().send::<()>(&[b"CONFIG", b"SET", b"requirepass", b""]);
    gateway.wait_until_redis_decides("someone");
}

/// A server with TLS on a separate port.
struct TlsServer {
    authority: Authority,
    port: u16,
    server: Server,
}

impl TlsServer {
    fn start(configure: impl FnOnce(Builder, &Authority) -> Builder) -> Self {
        let authority = Authority::new();
        let Certificate { certificate, key } = authority.server("server", &["127.0.0.1"]);
        let port = free_port();
        let server = Server::builder()
            .config("tls-port", &port.to_string())
            .config("tls-cert-file", certificate.to_str().unwrap())
            .config("tls-key-file", key.to_str().unwrap())
            .config("tls-ca-cert-file", authority.file().to_str().unwrap());
        let server = configure(server, &authority).start();
        Self { authority, port, server }
    }

    /// Returns settings that lead to this server, and trust the authority that issued its
    /// certificate.
    fn settings(&self) -> GatewayBuilder {
        self.trusting(&self.authority)
    }

    fn trusting(&self, authority: &Authority) -> GatewayBuilder {
        let settings =
            Gateway::builder().env("REDIS_URL", &format!("rediss://127.0.0.1:{}", self.port));
        settings.env("REDIS_TLS_CA_FILE", authority.file().to_str().unwrap())
    }
}

/// Configures the gateway to authenticate with this certificate.
fn with_certificate(settings: GatewayBuilder, certificate: &Certificate) -> GatewayBuilder {
    let settings = settings.env("REDIS_TLS_CERT_FILE", certificate.certificate.to_str().unwrap());
    settings.env("REDIS_TLS_KEY_FILE", certificate.key.to_str().unwrap())
}

#[test]
fn a_configured_authority_is_trusted_and_no_other_is() {
    let tls = TlsServer::start(|server, _| server.config("tls-auth-clients", "no"));
    assert_serves(tls.settings(), &tls.server);
    let port = tls.port.to_string();
    let parts = Gateway::builder().env("REDIS_HOST", "127.0.0.1").env("REDIS_SSL", "true");
    let file = tls.authority.file();
    let trusting = parts.env("REDIS_TLS_CA_FILE", file.to_str().unwrap());
    assert_serves(trusting.env("REDIS_PORT", &port), &tls.server);

    let advice = "set REDIS_TLS_CA_FILE to the authority that issued the certificate of Redis";
    assert_advises(tls.trusting(&Authority::new()), advice);
    let url = format!("rediss://localhost:{port}");
    let misnamed = tls.settings().env("REDIS_URL", &url);
    assert_advises(misnamed, "the REDIS_ settings must name Redis as its certificate does");
}

#[test]
fn redis_may_ask_for_a_certificate() {
    let tls = TlsServer::start(|server, _| server.config("tls-auth-clients", "yes"));
    let own = tls.authority.client("gateway");
    assert_serves(with_certificate(tls.settings(), &own), &tls.server);
    let advice = "Redis asks for a certificate: set REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE";
    assert_advises(tls.settings(), advice);
    let stranger = Authority::new();
    let of_another = stranger.client("stranger");
    let advice = "have Redis trust the authority that issued the certificate";
    assert_advises(with_certificate(tls.settings(), &of_another), advice);
}

#[test]
fn certificates_are_read_again_for_each_connection() {
    let tls = TlsServer::start(|server, _| server.config("tls-auth-clients", "yes"));
    let stranger = Authority::new();
    let other = stranger.client("stranger");
    let advice = "have Redis trust the authority that issued the certificate";
    let gateway = assert_advises(with_certificate(tls.settings(), &other), advice);
    tls.authority.client("gateway").replace(&other);
    gateway.wait_until_redis_decides("someone");
}

#[test]
fn tls_and_plain_connections_are_distinguished() {
    let tls = TlsServer::start(|server, _| server.config("tls-auth-clients", "no"));
    let plain = format!("redis://127.0.0.1:{}", tls.port);
    assert_advises(Gateway::builder().env("REDIS_URL", &plain), "if its port speaks TLS");
    let secret = format!("rediss://127.0.0.1:{}", tls.server.port());
    assert_advises(tls.settings().env("REDIS_URL", &secret), "a port without TLS");
}

#[test]
fn files_that_are_no_certificates_stop_the_start() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file.pem");
    let name = file.to_str().unwrap();
    let settings = || {
        let tls = Gateway::builder().env("REDIS_URL", "rediss://127.0.0.1:1");
        tls.env("REDIS_TLS_CA_FILE", name)
    };
    let (status, output) = settings().fails();
    assert!(!status.success() && output.contains(&format!("REDIS_TLS_CA_FILE: {name}: No such")));
    std::fs::write(&file, "nothing").unwrap();
    let (status, output) = settings().fails();
    let fault = format!("REDIS_TLS_CA_FILE: {name} holds no certificates in PEM");
    assert!(!status.success() && output.contains(&fault), "{output}");
}
