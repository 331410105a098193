package natsserver

import (
	"fmt"
	"strings"

	"github.com/comfyherd/comfyherd/internal/job"
)

// HolderKind is what a key is for.
type HolderKind string

const (
	TenantHolder     HolderKind = "tenant"
	AgentHolder      HolderKind = "agent"
	DispatcherHolder HolderKind = "dispatcher"
	OperatorHolder   HolderKind = "operator"
	WatcherHolder    HolderKind = "watcher"
	GatewayHolder    HolderKind = "gateway"
)

// Names of the accounts that every folder has.
const (
	rootKey       = "root" // no account: it signs them
	systemAccount = "system"
	fleetAccount  = "fleet"
)

// fileName is the name of a holder in files: tenant-acme, agent-gpu-1, dispatcher.
func fileName(kind HolderKind, name string) string {
	if name == "" {
		return string(kind)
	}
	return string(kind) + "-" + name
}

// parseFileName is the reverse of fileName; false for other names.
func parseFileName(file string) (HolderKind, string, bool) {
	for _, kind := range []HolderKind{TenantHolder, AgentHolder} {
		if name, found := strings.CutPrefix(file, string(kind)+"-"); found {
			return kind, name, true
		}
	}
	switch kind := HolderKind(file); kind {
	case DispatcherHolder, OperatorHolder, WatcherHolder, GatewayHolder:
		return kind, "", true
	case TenantHolder, AgentHolder:
	}
	return "", "", false
}

func checkTenant(name string) error {
	if !job.Tenant(name).Valid() {
		return fmt.Errorf("%q is no tenant name; use 1 to 64 of A-Z a-z 0-9 _ -", name)
	}
	return nil
}

func checkHost(name string) error {
	if !job.ValidHost(name) {
		return fmt.Errorf("%q is no host name; use 1 to 64 of A-Z a-z 0-9 _ -, the name that COMFY_HOSTS gives to the host", name)
	}
	return nil
}

// checkCase refuses a name that differs from a known one in case only: on some systems both would be one file.
func checkCase(file string, known []string) error {
	for _, other := range known {
		if other != file && strings.EqualFold(other, file) {
			return fmt.Errorf("%s differs from %s in upper and lower case only; choose another name", file, other)
		}
	}
	return nil
}
