// Package natsserver starts nats-server inside this process, and makes the folder of keys with which a nats-server, this one or the
// operator's own, lets nobody but a closed fleet in.
//
// # The server
//
// A server runs with JetStream on file storage: one for `dispatcher run` without a NATS and for the demo, or a cluster of three on
// loopback for the tests of replication and failover.
//
// Guarantee: when Start has returned, the server takes connections and JetStream answers; a store directory belongs to one server at a
// time, and a second one is refused (nats-server itself would open it and damage it); when Close has returned, everything is on disk
// and the directory is free again.
//
// The caller chooses who may connect: everybody (for loopback), clients with one token (Config.Token), or clients with credentials of
// an account (Config.Access). With Config.TLSCert and Config.TLSKey the server takes only TLS connections.
//
//	server.go    starts one server and closes it; cluster.go starts several
//	guard.go     who may connect, and accounts that change while the server runs; resolver.go gives it their tokens
//	lock.go      a store directory belongs to one server; lock_unix.go, lock_windows.go: how the system locks a file
//	lines.go     the server's log
//
// # The access folder
//
// An AccessFolder has the keys of a closed fleet and says what each key may do.
//
// Guarantee: with the credentials of a tenant or of a host a program reaches only what grants.go lists for it in NATS, whatever
// it sends and whatever reply subject it chooses. Permissions of a user alone cannot guarantee this, since NATS does not check reply
// subjects. So every tenant and every host has an account of its own: NATS delivers a reply only within the account of the request.
//
// The fleet has one account, with JetStream; its users are dispatchers and operators. Every tenant, every host and the
// watchers have an account of their own without JetStream, which imports the subjects of its grants from the fleet's.
// Every export is private: an import needs an activation token that the exporting account has signed for this one
// importing account and this one subject. So a tenant cannot use another's name in a subject. An account that imports the
// subjects of another's jobs without such a token gets nothing.
//
//	folder.go         makes a folder and opens it
//	holders.go        who has credentials, and how they get them; holdernames.go: their names
//	hostgrants.go     the tenants and slots that a host was given
//	grants.go         the subjects that each may use; gatewaygrants.go: those of gateways
//	accounts.go       the accounts that follow from the grants; keys.go signs them
//	revoke.go         takes credentials back
//	changes.go        how servers hear of changes: this process, or another by a file and by Push
//	files.go          how files are written, and their names:
//
//	operator.jwt        the operator's token: which key signs accounts
//	keys/<name>.nk      the private keys: root, which signs accounts, and one of every account: system, fleet, tenant-acme, …
//	accounts/<key>.jwt  what each account may do, named by its public key, in the form of nats-server's own resolver
//	creds/<name>.creds  credentials with which a program connects: its user's token and private key
//	revoked/<key>.user  revoked users of the fleet's account; a revoked account stays in accounts, without any rights
//	revision            a text that changes with every change; servers that run with the folder read it
//	nats-server.conf    for your own nats-server: a file that its configuration includes
//
// Files are 0600 and folders 0700, and each file is written whole under another name first. Commands may run at the
// same time. A key is made once and never replaced, so every command may be repeated.
package natsserver
