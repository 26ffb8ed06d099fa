// Score events from C++ with libcurl: raw float32 rows in, float32 scores out, repeated while the service is overloaded.
//
//     c++ -std=c++17 -O2 client.cpp -lcurl -o client
//     ./client http://localhost:8000 < events.f32        (little-endian float32, 14 for each event)

#include <chrono>
#include <cstring>
#include <iostream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <curl/curl.h>

static size_t append(char* data, size_t size, size_t count, void* body) {
    static_cast<std::string*>(body)->append(data, size * count);
    return size * count;
}

// Return one score for each event; `curl` keeps its connection for the next call.
std::vector<float> score(CURL* curl, const std::string& url, const std::string& rows, int tries = 5) {
    std::string body;
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/octet-stream");
    curl_easy_setopt(curl, CURLOPT_URL, (url + "/score/batch").c_str());
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(rows.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, rows.data());
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, 60L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, append);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &body);
    CURLcode code;
    long status = 0;
    for (;;) {
        body.clear();
        code = curl_easy_perform(curl);
        status = 0;
        curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
        const bool passes = code != CURLE_OK || status == 503;  // scoring twice does no harm
        if (!passes || --tries == 0) break;
        curl_off_t wait_s = 0;
        curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait_s);
        std::this_thread::sleep_for(std::chrono::seconds(wait_s > 0 ? wait_s : 1));
    }
    curl_slist_free_all(headers);
    if (code != CURLE_OK) throw std::runtime_error(curl_easy_strerror(code));
    if (status != 200) throw std::runtime_error(std::to_string(status) + ": " + body);
    std::vector<float> scores(body.size() / sizeof(float));
    std::memcpy(scores.data(), body.data(), scores.size() * sizeof(float));
    return scores;
}

int main(int argc, char** argv) {
    const std::string url = argc > 1 ? argv[1] : "http://localhost:8000";
    const std::string rows{std::istreambuf_iterator<char>(std::cin), {}};
    curl_global_init(CURL_GLOBAL_DEFAULT);
    CURL* curl = curl_easy_init();
    int result = 0;
    try {
        std::cout.precision(9);
        for (const float one : score(curl, url, rows)) std::cout << one << "\n";
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        result = 1;
    }
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    return result;
}
