// Package daemon is what the commands share with each other and with the operating
// system: the connection to NATS, the log, signals, the version, and the port for
// health and metrics. It decides nothing about jobs.
package daemon
