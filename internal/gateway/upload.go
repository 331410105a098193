package gateway

// largestUpload is the most bytes of a file that a client uploads.
const largestUpload = 4 << 30
