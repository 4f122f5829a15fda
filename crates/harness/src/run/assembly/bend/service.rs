//! A bent client of outside services.

use std::sync::Arc;

use super::Bend;
use redeliver_core::ports::{Service, ServiceCall, ServiceError, ServiceReply};

/// A client of outside services whose calls a planted bug can change.
#[derive(Clone, Debug)]
pub struct BentService<V> {
    inner: V,
    bend: Arc<dyn Bend>,
}

impl<V> BentService<V> {
    pub(super) fn new(inner: V, bend: Arc<dyn Bend>) -> Self {
        Self { inner, bend }
    }
}

impl<V: Service> Service for BentService<V> {
    async fn call(&self, call: ServiceCall) -> Result<ServiceReply, ServiceError> {
        self.inner.call(self.bend.called(call)).await
    }
}
