package gateway

import (
	"net/http"
	"time"

	"github.com/comfyherd/comfyherd/internal/queue"
)

func (g *Gateway) getFeatures(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	answerJSON(w, http.StatusOK, features())
	return nil
}

// getUsers answers that there is one user, whose files are kept by the server: each tenant sees its own.
func (g *Gateway) getUsers(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	answerJSON(w, http.StatusOK, map[string]any{"storage": "server", "migrated": true})
	return nil
}

// device is a device of a host in /system_stats.
type device struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Index     int    `json:"index"`
	Total     int64  `json:"vram_total"`
	Free      int64  `json:"vram_free"`
	TorchAll  int64  `json:"torch_vram_total"`
	TorchFree int64  `json:"torch_vram_free"`
}

// deviceType is the type of a device by its name: ComfyUI has no other name for the devices that are not of a GPU's driver.
func deviceType(name string) string {
	switch name {
	case "cpu", "mps":
		return name
	}
	return "cuda"
}

// getSystemStats answers one device for each host that is online and may run the tenant's jobs. Paths and arguments of hosts are not shown; without the argument
// --enable-manager a page offers no Manager, which would change hosts.
func (g *Gateway) getSystemStats(w http.ResponseWriter, r *http.Request, of *tenant) error {
	hosts, err := g.q.Hosts(r.Context())
	if err != nil {
		return err
	}
	devices := []device{}
	version := ""
	for i := range hosts {
		h := &hosts[i]
		if h.State != queue.Online || !g.catalogs.serves(of.name, h.Host) {
			continue
		}
		d := device{Name: h.Device, Type: deviceType(h.Device), Index: len(devices), Total: h.Memory, TorchAll: h.Memory}
		if len(h.Running) < h.Slots { // an idle one has all its memory
			d.Free, d.TorchFree = h.Memory, h.Memory
		}
		devices = append(devices, d)
		version = max(version, h.Version)
	}
	if version == "" {
		version = oldestServed
	}
	answerJSON(w, http.StatusOK, map[string]any{
		"system": map[string]any{
			"os": "linux", "ram_total": 0, "ram_free": 0, "comfyui_version": version, "required_frontend_version": "",
			"installed_templates_version": "", "required_templates_version": "", "python_version": "", "pytorch_version": "",
			"embedded_python": false, "argv": []string{"main.py"}, "deploy_environment": "comfyherd",
		},
		"devices": devices,
	})
	return nil
}

// oldestServed stands for ComfyUI's version as long as no host is online: the API is the one of that version.
const oldestServed = "0.33.0"

// startedText is the log that a gateway shows: hosts' logs belong to their operators.
func startedText() string {
	return "This is comfyherd: prompts run on the hosts of a fleet. What a host says of a prompt is in the prompt's own messages.\n"
}

func (g *Gateway) getLogs(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	answerJSON(w, http.StatusOK, startedText())
	return nil
}

func (g *Gateway) getRawLogs(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	answerJSON(w, http.StatusOK, map[string]any{
		"entries": []map[string]string{{"t": time.Time{}.Format(time.RFC3339), "m": startedText()}},
		"size":    map[string]int{"cols": 80, "rows": 24},
	})
	return nil
}

// subscribeLogs answers a wish for the log, of which nothing new comes.
func (g *Gateway) subscribeLogs(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	w.WriteHeader(http.StatusOK)
	return nil
}

// getNothing answers an empty object.
func (g *Gateway) getNothing(w http.ResponseWriter, _ *http.Request, _ *tenant) error {
	answerJSON(w, http.StatusOK, struct{}{})
	return nil
}
