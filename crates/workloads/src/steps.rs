//! Steps that several handlers take.

use redeliver_core::ports::{Row, Versioned, World};
use redeliver_pipeline::handler::{Cx, Failure};

/// Gives the row with the key of `opening`, locked; `opening` itself where there is none yet.
pub(super) async fn open_for_update<W: World, R: Row>(
    cx: &mut Cx<'_, W>,
    opening: &R,
) -> Result<Versioned<R>, Failure> {
    let key = opening.key();
    if let Some(row) = cx.get_for_update(&key).await? {
        return Ok(row);
    }
    // Another transaction may have been quicker, and more may have changed the row since: what
    // counts is what stands there under our lock.
    cx.insert(opening).await?;
    let row = cx.get_for_update(&key).await?;
    row.ok_or_else(|| Failure::transient("row-missing", format!("{}/{key}", R::TABLE)))
}

/// Replaces a row that was locked at `version`.
pub(super) async fn replace<W: World, R: Row>(
    cx: &mut Cx<'_, W>,
    row: &R,
    version: i64,
) -> Result<(), Failure> {
    if cx.update(row, version).await? {
        return Ok(());
    }
    let what = format!("{}/{} is not at version {version}", R::TABLE, row.key());
    Err(Failure::transient("version-conflict", what))
}

/// Takes a workflow to its next state.
pub(super) async fn transition<W: World>(
    cx: &mut Cx<'_, W>,
    workflow: &str,
    to: &str,
) -> Result<(), Failure> {
    let head = cx.workflow(workflow).await?;
    Ok(cx.transition(&head, to).await?)
}
