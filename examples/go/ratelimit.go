package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// The headers of the gateway's answer that are for the end user.
var limitHeaders = []string{
	"RateLimit-Policy", "RateLimit", "Retry-After",
	"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset",
}

// Attributes returns the values by which policies match and identify a request: the address of the
// socket, never X-Forwarded-For, the method and the path.
func Attributes(r *http.Request) map[string]any {
	// ServeMux routes by the decoded path in modules before Go 1.22, and the gateway decodes the path
	// again. For a router that routes by the escaped path, use r.URL.EscapedPath().
	path := (&url.URL{Path: r.URL.Path}).EscapedPath()
	attributes := map[string]any{"method": r.Method, "path": path}
	if address, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		// A link-local IPv6 address has the name of an interface after the percent sign.
		attributes["client.ip"], _, _ = strings.Cut(address, "%")
	}
	return attributes
}

// RateLimit returns a handler that serves the requests that the gateway allows. While the gateway
// does not decide, failOpen serves every request; otherwise the answer is 503.
func RateLimit(gateway, apiKey string, failOpen bool, next http.Handler) http.Handler {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = transport.MaxIdleConns
	client := &http.Client{
		Transport:     transport,
		Timeout:       250 * time.Millisecond, // for the whole check
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status, headers, err := check(client, gateway, apiKey, Attributes(r))
		if err != nil {
			// The check is not sent again: the gateway may have counted it.
			log.Printf("the rate limit check failed: %v", err)
			if status = http.StatusOK; !failOpen {
				status = http.StatusServiceUnavailable
				w.Header().Set("Retry-After", "1")
			}
		}
		for _, name := range limitHeaders {
			if value := headers.Get(name); value != "" {
				w.Header().Set(name, value)
			}
		}
		if status != http.StatusOK {
			w.WriteHeader(status)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// check asks the gateway for a decision, and returns the status that stands for it, with the headers
// of the gateway's answer: 200 to serve the request, 429 for a denial, and 400 for a malformed path
// or address.
func check(client *http.Client, gateway, apiKey string, attributes map[string]any) (int, http.Header, error) {
	body, err := json.Marshal(map[string]any{"attributes": attributes})
	if err != nil {
		return 0, nil, err
	}
	request, err := http.NewRequest(http.MethodPost, gateway+"/rate-limit/check", bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	if apiKey != "" {
		request.Header.Set("X-API-Key", apiKey)
	}
	answer, err := client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	// The connection serves another check only after its answer was read whole.
	text, err := io.ReadAll(io.LimitReader(answer.Body, 64<<10))
	if err != nil {
		return 0, nil, err
	}
	switch answer.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
		// The end user wrote these values, and must not escape the limit by them.
		return http.StatusBadRequest, nil, nil
	case http.StatusOK, http.StatusTooManyRequests:
		// An answer with status 429 can also be about the limit of this application as a caller.
		var decision struct{ Allowed *bool }
		if json.Unmarshal(text, &decision) == nil && decision.Allowed != nil {
			if *decision.Allowed {
				return http.StatusOK, answer.Header, nil
			}
			return http.StatusTooManyRequests, answer.Header, nil
		}
	}
	return 0, nil, fmt.Errorf("the gateway answered with status %d", answer.StatusCode)
}
