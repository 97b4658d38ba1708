//! A client for `axum_kv --self-test`: just enough HTTP/1.1 over a socket to ask a question and
//! read the answer.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use futures::{StreamExt, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ROWS: usize = 200;
const RIVALS: usize = 8;
/// What a listener lets wait, 128 where nobody asks for more, stays far away: beyond it the system
/// may reset a connection.
const CONNECTIONS: usize = 16;

/// An answer's status and body.
struct Answer {
    status: u16,
    body: Vec<u8>,
}

/// Asks the service everything it can do and fails at the first answer that is not the expected
/// one.
pub async fn self_test(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    expect(address, "GET", "/ready", "", 200, "ready\n").await?;
    expect(address, "GET", "/rows/ada", "", 404, "no such row\n").await?;
    expect(address, "PUT", "/rows/ada", "1815", 204, "").await?;
    expect(address, "GET", "/rows/ada", "", 200, "1815").await?;
    expect(address, "POST", "/rows/alan", "1912", 201, "").await?;
    expect(address, "POST", "/rows/alan", "1913", 409, "there is a row already\n").await?;
    expect(address, "GET", "/rows/alan", "", 200, "1912").await?;
    let lines = "{\"key\":\"ada\",\"value\":\"1815\"}\n{\"key\":\"alan\",\"value\":\"1912\"}\n";
    expect(address, "GET", "/rows?prefix=a", "", 200, lines).await?;
    expect(address, "DELETE", "/rows/ada", "", 204, "").await?;
    expect(address, "GET", "/rows/ada", "", 404, "no such row\n").await?;
    expect(address, "DELETE", "/rows/alan", "", 204, "").await?;
    race(address).await?;
    list_many(address).await
}

async fn expect(
    address: SocketAddr,
    method: &str,
    path: &str,
    body: &str,
    status: u16,
    expected: &str,
) -> Result<(), Box<dyn Error>> {
    let answer = ask(address, method, path, body).await?;
    let got = String::from_utf8_lossy(&answer.body);
    println!("{method:<6} {path:<16} {} {}", answer.status, got.escape_debug());
    if answer.status != status || got != expected {
        return Err(format!("expected {status} {expected:?}").into());
    }
    Ok(())
}

/// Rivals that create one key at once: one is told 201, all others 409.
async fn race(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let rivals: Vec<_> = (0..RIVALS)
        .map(|rival| {
            tokio::spawn(
                async move { ask(address, "POST", "/rows/race", &rival.to_string()).await },
            )
        })
        .collect();
    let mut created = 0;
    for rival in rivals {
        match rival.await??.status {
            201 => created += 1,
            409 => {}
            other => return Err(format!("a rival was answered {other}").into()),
        }
    }
    println!("{RIVALS} clients created one key at once: {created} did");
    if created != 1 {
        return Err("exactly one must".into());
    }
    expect(address, "DELETE", "/rows/race", "", 204, "").await
}

/// Puts many rows, a few at once, and lists them in one streamed body.
async fn list_many(address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let puts = (0..ROWS)
        .map(|row| async move { ask(address, "PUT", &format!("/rows/s{row:04}"), "x").await });
    let mut answers = stream::iter(puts).buffer_unordered(CONNECTIONS);
    while let Some(answer) = answers.next().await {
        if answer?.status != 204 {
            return Err("a put failed".into());
        }
    }
    let answer = ask(address, "GET", "/rows?prefix=s", "").await?;
    let lines = answer.body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count();
    println!("GET    /rows?prefix=s   {} {lines} lines", answer.status);
    if lines != ROWS {
        return Err(format!("expected {ROWS} lines").into());
    }
    Ok(())
}

async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let mut socket = TcpStream::connect(address).await?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    socket.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).await?;
    parse(&bytes).ok_or_else(|| io::Error::other("the answer is not HTTP/1.1, or has no end"))
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).ok()?.to_ascii_lowercase();
    let status = head.strip_prefix("http/1.1 ")?.get(..3)?.parse().ok()?;
    let body = &bytes[end + 4..];
    let chunked = head.contains("\r\ntransfer-encoding: chunked");
    let body = if chunked { unchunk(body)? } else { body.to_vec() };
    Some(Answer { status, body })
}

/// Joins the chunks; `None` without the empty last one, which says that the body is whole.
fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|window| window == b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..line]).ok()?, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 2 + length + 2..)?;
    }
}
