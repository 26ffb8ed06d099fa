// Posts a file again and again and prints the status of each response: go run refused.go URL FILE TIMES "Name: value"...
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func main() {
	body, err := os.ReadFile(os.Args[2])
	if err != nil {
		panic(err)
	}
	times, err := strconv.Atoi(os.Args[3])
	if err != nil {
		panic(err)
	}
	for i := 0; i < times; i++ {
		request, err := http.NewRequest("POST", os.Args[1], bytes.NewReader(body))
		if err != nil {
			panic(err)
		}
		for _, field := range os.Args[4:] {
			name, value, _ := strings.Cut(field, ": ")
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			fmt.Println(err)
			continue
		}
		_, err = io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(response.StatusCode)
	}
}
