//go:build nethttp

package wire

const defaultEngine = NetHTTP
