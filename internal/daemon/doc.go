// Package daemon is what the commands share with each other, with the operating system and with people: the connection to
// NATS, the log, signals, the version, the port for health and metrics, and what a terminal shows. It decides nothing about
// jobs.
//
// All text that comes from other machines is made printable here before a terminal gets it (Printable): a Console prints
// results, messages and tables, Progress draws live lines, and EventText and its neighbours put events into words.
package daemon
