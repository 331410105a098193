package main

import (
	"fmt"
	"reflect"
	"strings"
	"unicode"

	"github.com/comfyherd/comfyherd/internal/queue"
)

// settings lists the flags of the dispatcher itself, for the call settings: those of the connection and of the log are left out,
// since they may name secrets.
func (r *runCmd) settings() []queue.Setting {
	var list []queue.Setting
	value := reflect.ValueOf(r).Elem()
	for _, field := range reflect.VisibleFields(value.Type()) {
		help, group := field.Tag.Get("help"), field.Tag.Get("group")
		if len(field.Index) > 1 || help == "" || group != "" && group != "keep" {
			continue
		}
		v, from := value.FieldByIndex(field.Index), "set"
		text := fmt.Sprint(reflect.Indirect(v))
		if v.IsZero() {
			text, from = "", "default"
		}
		if usual := field.Tag.Get("default"); v.IsZero() || spelled(text) == spelled(usual) {
			text, from = firstOf(usual, field.Tag.Get("unset"), text), "default"
		}
		list = append(list, queue.Setting{Name: firstOf(field.Tag.Get("name"), kebab(field.Name)), Value: text, From: from})
	}
	return list
}

// spelled makes values equal that are spelled in two ways, such as 10m0s and 10m, or 4 GiB and 4GiB.
func spelled(text string) string {
	text = strings.ReplaceAll(text, " ", "")
	if rest, whole := strings.CutSuffix(text, "m0s"); whole {
		return rest + "m"
	}
	return text
}

func firstOf(texts ...string) string {
	for _, text := range texts {
		if text != "" {
			return text
		}
	}
	return ""
}

// kebab writes a field's name as its flag has it: LaneCap is lane-cap.
func kebab(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
