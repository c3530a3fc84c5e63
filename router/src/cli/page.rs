//! The demo's hidden service: a small built-in page on a loopback port.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// The page.
pub(super) const PAGE: &str = "<!doctype html>\n<html lang=en><meta charset=utf-8>\
<meta name=color-scheme content=\"light dark\"><title>Hello from a hidden service</title>\n\
<h1>Hello from a hidden service</h1>\n\
<p>This page came to you through six relays. The three on your side do not know which page you \
read; the three on its side do not know who reads it.\n</html>\n";

/// Longest request that is read.
const REQUEST_MAX: usize = 16 * 1_024;

/// Serves the page on a loopback port of the system's choice.
///
/// # Errors
/// When no port can be had.
pub(super) async fn serve() -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let task = tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(answer(socket));
        }
    });
    Ok((address, task))
}

async fn answer(mut socket: TcpStream) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        if request.len() > REQUEST_MAX || socket.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        PAGE.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(PAGE.as_bytes()).await?;
    socket.shutdown().await
}
