// Package embedded runs nats-server with JetStream inside this process, on file
// storage: one server for `dispatcher run` without a NATS and for the demo, or a
// cluster of three on loopback for the tests of replication and failover.
//
// Guarantee: when Start has returned, the server takes connections and
// JetStream answers; a store directory belongs to one server at a time, and a
// second one is refused (nats-server itself would open it and damage it); when
// Close has returned, everything is on disk and the directory is free again.
//
// The caller chooses who may connect: everybody (for loopback), clients with one
// token (Config.Token), or clients with credentials of an account (Config.Access).
// With Config.TLSCert and Config.TLSKey the server takes only TLS connections.
package embedded
