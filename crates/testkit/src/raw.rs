//! Answers that are not HTTP, written to the socket as they are.

use std::time::Duration;

use keymux_provider::{End, Plan};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::time::sleep_until;

use crate::paced::{CallGuard, Pace};
use crate::socket::Socket;

/// What a connection is to write instead of an answer of hyper's.
pub(crate) struct RawAnswer {
    pub(crate) plan: Plan,
    pub(crate) pace: Pace,
    pub(crate) guard: CallGuard,
}

/// Plays the plan to its end; the connection is gone afterwards. A caller who leaves first ends it at once.
pub(crate) async fn play(socket: Socket, answer: RawAnswer) {
    let RawAnswer { mut plan, pace, mut guard } = answer;
    let (mut reader, mut writer) = split(socket);
    let writing = async {
        while let Some(step) = plan.next_step() {
            sleep_until(pace.due(step.at_ns)).await;
            if writer.write_all(&step.bytes).await.is_err() {
                return false;
            }
            guard.sent(&step.bytes);
        }
        match plan.end_at_ns {
            Some(end) => {
                sleep_until(pace.due(end)).await;
                true
            }
            None => std::future::pending().await,
        }
    };
    let leaving = async {
        let mut rest = [0; 1024];
        while matches!(reader.read(&mut rest).await, Ok(n) if n > 0) {}
    };
    let finished = tokio::select! {
        finished = writing => finished,
        () = leaving => false,
    };
    if !finished {
        return;
    }
    let mut socket = reader.unsplit(writer);
    guard.completed();
    if plan.end == End::Reset {
        // Closing with linger 0 sends RST instead of FIN. An error means the peer was faster.
        let _ = SockRef::from(socket.tcp()).set_linger(Some(Duration::ZERO));
    } else {
        let _ = socket.shutdown().await;
    }
}
