//! What a struck fault does to the calling process.
//!
//! Crash and pause look the same at every seam; everything else is up to the seam itself.

use crate::fault::{Kind, Seam, Strike};
use crate::process::ProcessId;
use crate::world::{World, with};

/// A call at a seam, with what struck it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    process: Option<ProcessId>,
    strike: Option<Strike>,
}

impl Call {
    /// Before the call takes effect: dies or stands still here if so struck. Gives any other
    /// fault, which is up to the seam.
    pub(crate) async fn act(&self) -> Option<Kind> {
        let strike = self.strike?;
        match strike.kind {
            Kind::Crash | Kind::Pause => {
                if !strike.after {
                    self.suffer(strike).await;
                }
                None
            }
            kind => Some(kind),
        }
    }

    /// After the call took effect.
    pub(crate) async fn act_after(&self) {
        if let Some(strike) = self.strike
            && strike.after
        {
            self.suffer(strike).await;
        }
    }

    /// For how long the fault lasts.
    pub(crate) fn lasts(&self) -> u64 {
        self.strike.map_or(0, |strike| strike.lasts)
    }

    async fn suffer(&self, strike: Strike) {
        let Some(process) = self.process else { return };
        match strike.kind {
            Kind::Crash => {
                with(|w| {
                    let restart = w.restart_after();
                    w.crash(process, Some(restart));
                });
                std::future::pending().await
            }
            Kind::Pause => {
                with(|w| w.pause(process, strike.lasts));
                // The pause takes hold when this task yields.
                crate::executor::yield_now().await;
            }
            _ => {}
        }
    }
}

impl World {
    /// A call of the current task, on its current work.
    pub(crate) fn strike_here(&mut self, seam: Seam) -> Call {
        let (subject, attempt) = self.work();
        self.strike_message(seam, subject, attempt)
    }

    /// A call of the current task about a given message.
    pub(crate) fn strike_message(&mut self, seam: Seam, subject: u64, attempt: u32) -> Call {
        let process = self.current_process();
        let strike = process.and_then(|p| self.strike_for(seam, p, subject, attempt));
        Call { process, strike }
    }
}
