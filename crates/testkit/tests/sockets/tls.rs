//! The same world behind TLS.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use keymux_testkit::{Identity, Options, Server};
use rcgen::generate_simple_self_signed;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::json;

use crate::wire::{PATIENCE, chat};

#[test]
fn a_certificate_is_shown_and_answers_come_through_it() {
    let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert_pem = made.cert.pem().into_bytes();
    let identity =
        Identity { cert_pem: cert_pem.clone(), key_pem: made.signing_key.serialize_pem().into_bytes() };
    let spec = json!({ "provider": [{ "name": "p", "open": true, "account": [{ "name": "a", "key": [{ "name": "k", "secret": "s" }] }] }] });
    let options = Options { tls: Some(identity), ..Options::default() };
    let server = Server::start(serde_json::from_value(spec).unwrap(), &options).unwrap();
    assert!(server.base_url("p").starts_with("https://"));

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(&cert_pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(server.addr()).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut stream = rustls::Stream::new(&mut client, &mut socket);
    let body = chat(false, &json!({ "text": "Under seal." }));
    let request = format!(
        "POST /p/v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("Under seal."), "{answer}");
}

#[test]
fn a_certificate_that_is_none_is_an_error_at_the_start() {
    let identity = Identity { cert_pem: b"nonsense".to_vec(), key_pem: b"nonsense".to_vec() };
    let options = Options { tls: Some(identity), ..Options::default() };
    assert!(Server::start(keymux_testkit::preset("e2e").unwrap(), &options).is_err());
}
