// An application whose requests are limited by the policies of a gateway.
package main

import (
	"log"
	"net/http"
	"os"
	"strconv"
)

func main() {
	// While the gateway does not decide: true serves every request, and false answers 503.
	failOpen, err := strconv.ParseBool(os.Getenv("FAIL_OPEN"))
	if err != nil {
		log.Fatal("set FAIL_OPEN to true or false")
	}
	gateway := getenv("RATELIMIT_URL", "http://localhost:8000")

	home := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Write([]byte(`{"hello":"world"}`))
	})
	limited := RateLimit(gateway, os.Getenv("RATELIMIT_API_KEY"), failOpen, home)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+getenv("PORT", "3000"), limited))
}

func getenv(name, other string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return other
}
