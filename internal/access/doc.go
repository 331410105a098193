// Package access keeps the keys of a closed fleet in one folder and says what each key may do.
//
// What is guaranteed: whoever holds the credentials of a tenant or of a host reaches nothing in NATS but what grants.go
// lists for it, whatever it sends and whatever reply subject it chooses. That rests on accounts, not on the
// permissions of users: NATS does not check a reply subject, but a reply never leaves the account that asked.
//
// The fleet has one account, with JetStream; its users are dispatchers and operators. Every tenant, every host and the
// watchers have an account of their own without JetStream, which imports the subjects of its grants from the fleet's.
// Every export is private: an import needs an activation token that the exporting account has signed for this one
// importing account and this one subject. So a tenant goes by its name in all subjects, and an account that imports
// another's lane gets nothing even when the operator's key has signed it.
//
// The folder:
//
//	operator.jwt        who signs accounts
//	keys/<name>.nk      the private keys: root, which signs accounts, and one of every account: system, fleet, tenant-acme, …
//	accounts/<key>.jwt  what each account may do, named by its public key, as nats-server's own resolver has them
//	creds/<name>.creds  what a program connects with: its user's token and private key
//	revoked/<key>.user  users of the fleet's account that were cut off; an account that was stays, with nothing in it
//	revision            another text after each change; a server that runs with the folder looks at it
//	nats-server.conf    what a nats-server of one's own includes
//
// Files are 0600 and folders 0700, and each file is written whole under another name first. Commands may run at the
// same time. A key is made once: what stands in the folder is never made anew, so every command may be repeated.
package access
