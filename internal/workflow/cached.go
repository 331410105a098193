package workflow

import (
	"path"
	"strings"
)

// The node pack comfyui-tooling-nodes carries the pictures of Krita: a client puts a picture into ComfyUI's memory under an id, nodes of a
// class read it by this id, and those of another leave pictures there under ids of their own. ComfyUI forgets them after ten minutes.
const (
	// CacheClass is the class that reads a picture, and CacheInput its input with the id.
	CacheClass = "ETN_LoadImageCache"
	CacheInput = "id"
	// CachedOutput is the type of an output that is in the pack's memory. Its file name is its id with an extension.
	CachedOutput = "cache"

	longestCachedID = 128
)

// CachedID reports whether a text can be the id of a picture in the pack's memory.
func CachedID(id string) bool {
	return id != "" && len(id) <= longestCachedID && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '_'
	})
}

// CachedName is the id of a picture whose file name this is.
func CachedName(file string) (id string) { return strings.TrimSuffix(file, path.Ext(file)) }
