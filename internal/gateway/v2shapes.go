package gateway

import (
	"time"
)

// The shapes of Comfy API v2, as its OpenAPI document has them. A field that the document requires is always written, with null
// where nothing is known.

type v2Status string

const (
	v2Queued    v2Status = "queued"
	v2Running   v2Status = "running"
	v2Succeeded v2Status = "succeeded"
	v2Canceled  v2Status = "canceled"
	v2Failed    v2Status = "failed"
	v2Expired   v2Status = "expired"
)

type v2Job struct {
	ID            string            `json:"id"`
	Status        v2Status          `json:"status"`
	CreatedAt     time.Time         `json:"created_at"`
	StartedAt     *time.Time        `json:"started_at"`
	CompletedAt   *time.Time        `json:"completed_at"`
	ExpiresAt     time.Time         `json:"expires_at"`
	QueuePosition *int              `json:"queue_position"`
	Progress      *v2Progress       `json:"progress"`
	Outputs       []v2Output        `json:"outputs"`
	Error         *v2JobError       `json:"error"`
	Metrics       v2Metrics         `json:"metrics"`
	URLs          v2URLs            `json:"urls"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Priority      int               `json:"priority"`
	OutputsReused bool              `json:"outputs_reused"`
}

type v2Metrics struct {
	QueueMS     *int64 `json:"queue_ms"`
	ExecutionMS *int64 `json:"execution_ms"`
}

type v2URLs struct {
	Self   string `json:"self"`
	Events string `json:"events"`
	Cancel string `json:"cancel"`
}

type v2Progress struct {
	Value            float64 `json:"value"` // 0 to 1
	NodesDone        int     `json:"nodes_done"`
	NodesTotal       int     `json:"nodes_total"`
	CurrentNode      *string `json:"current_node"`
	CurrentNodeClass *string `json:"current_node_class"`
	Step             *int    `json:"step"`
	Steps            *int    `json:"steps"`
	Message          *string `json:"message"`
}

type v2Output struct {
	NodeID       string    `json:"node_id"`
	Name         string    `json:"name"`
	Type         string    `json:"type"` // image, video, audio, text, file or latent
	ContentType  string    `json:"content_type"`
	SizeBytes    int64     `json:"size_bytes"`
	ID           string    `json:"id"` // of the asset: <job>.<index>
	Hash         *string   `json:"hash"`
	URL          string    `json:"url"`
	URLExpiresAt time.Time `json:"url_expires_at"`
	JobID        string    `json:"job_id"`
}

type v2JobError struct {
	Code      string  `json:"code"`
	Message   string  `json:"message"`
	NodeID    *string `json:"node_id"`
	ClassType *string `json:"class_type"`
	Traceback *string `json:"traceback"`
}

type v2Asset struct {
	ID           string     `json:"id"`
	Hash         *string    `json:"hash"`
	SizeBytes    int64      `json:"size_bytes"`
	ContentType  string     `json:"content_type"`
	FilePath     *string    `json:"file_path"`
	CreatedNew   *bool      `json:"created_new,omitempty"`
	CreatedAt    time.Time  `json:"created_at"`
	URL          string     `json:"url"`
	URLExpiresAt time.Time  `json:"url_expires_at"`
	ExpiresAt    *time.Time `json:"expires_at"`
	JobID        string     `json:"job_id,omitempty"`
	Tags         []string   `json:"tags,omitempty"`
}

type v2Workflow struct {
	Workflow any    `json:"workflow"`
	Format   string `json:"format"`
}

// v2Item is a job in a list.
type v2Item struct {
	ID         string            `json:"id"`
	Status     v2Status          `json:"status"`
	CreateTime time.Time         `json:"create_time"`
	UpdateTime time.Time         `json:"update_time"`
	Metadata   map[string]string `json:"metadata"`
}

type v2List struct {
	Jobs       []v2Item `json:"jobs"`
	NextCursor string   `json:"next_cursor,omitempty"`
}

// The data of events of a stream besides Progress and Output.
type (
	v2StatusEvent struct {
		Status        v2Status `json:"status"`
		QueuePosition *int     `json:"queue_position"`
	}
	v2PreviewEvent struct {
		NodeID      string `json:"node_id"`
		ContentType string `json:"content_type"`
		Data        []byte `json:"data_base64"` // encoding/json writes bytes in base64
	}
)

// orNull is a pointer to a value, or nil for the zero value of its type: the document has null for what is unknown.
func orNull[T comparable](v T) *T {
	var none T
	if v == none {
		return nil
	}
	return &v
}
