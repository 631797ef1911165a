//! The control plane against a fake dataplane, over its three HTTP versions. One binary, because
//! linking takes longer than all of it runs.

mod attaching;
mod batches;
mod capturing;
mod certificates;
mod doors;
mod draining;
mod fake;
mod glance;
mod hostile;
mod http;
mod jwt;
mod observers;
mod pipes;
mod plain;
mod quotas;
mod reload;
mod resources;
mod retries;
mod snapshots;
mod spreading;
mod stage;
mod strangers;
mod streams;
mod tenants;
mod traces;
mod webhooks;
