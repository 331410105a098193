// Package access keeps the keys of a closed fleet in one folder and says what each key may do.
//
// Guarantee: with the credentials of a tenant or of a host a program reaches only what grants.go lists for it in NATS, whatever
// it sends and whatever reply subject it chooses. That rests on accounts, not on the permissions of users: NATS does not check
// a reply subject, but a reply never leaves the account of the request.
//
// The fleet has one account, with JetStream; its users are dispatchers and operators. Every tenant, every host and the
// watchers have an account of their own without JetStream, which imports the subjects of its grants from the fleet's.
// Every export is private: an import needs an activation token that the exporting account has signed for this one
// importing account and this one subject. So a tenant cannot use another's name in a subject, and an account that imports
// another's lane gets nothing, even when the operator's key has signed it.
//
// The folder:
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
package access
