//go:build unix && race

package main_test

// reading are the pages whose commands run with the race detector: the guide has every kind of them, and the whole would take
// four times as long.
var reading = []string{"docs/guide.md"}
