// Has events scored in the order of calls of CMS's client, with the stubs that protoc generates from inference.proto.
//
//     cms MODEL REQUESTS ADDRESS... < events.f32 > scores.f32
//
// Servers whose RepositoryIndex fails, or does not have the model, are skipped. The events are sent in so many requests at
// once, as raw_input_contents. Ends with status 1 and a reason where a response is not what CMS's client needs.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "inference.grpc.pb.h"

using inference::GRPCInferenceService;
using Stub = GRPCInferenceService::Stub;

constexpr auto timeout = std::chrono::seconds(30);

void require(bool holds, const std::string& what) {
    if (!holds) throw std::runtime_error(what);
}

// Make a call that must succeed.
template <typename Request, typename Response>
Response call(Stub& stub, grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
              const Request& request) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + timeout);
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    require(status.ok(), Response::descriptor()->name() + ": " + status.error_message());
    return response;
}

// Give a stub of the first server that has the model.
std::unique_ptr<Stub> find_server(const std::string& model, const std::vector<std::string>& addresses) {
    for (const std::string& address : addresses) {
        auto stub = GRPCInferenceService::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
        try {
            require(call(*stub, &Stub::ServerLive, inference::ServerLiveRequest()).live(), "not live");
            require(call(*stub, &Stub::ServerReady, inference::ServerReadyRequest()).ready(), "not ready");
            const auto metadata = call(*stub, &Stub::ServerMetadata, inference::ServerMetadataRequest());
            require(!metadata.name().empty() && !metadata.version().empty(), "the server has no name or version");
            const auto index = call(*stub, &Stub::RepositoryIndex, inference::RepositoryIndexRequest());
            for (const auto& one : index.models())
                if (one.name() == model && one.state() == "READY") return stub;
            throw std::runtime_error("does not have " + model);
        } catch (const std::runtime_error& error) {
            std::cerr << "skipped " << address << ": " << error.what() << "\n";
        }
    }
    throw std::runtime_error("no server has " + model);
}

// Count the events and the requests that were scored.
std::pair<uint64_t, uint64_t> counts(Stub& stub, const std::string& model) {
    inference::ModelStatisticsRequest request;
    request.set_name(model);
    const auto response = call(stub, &Stub::ModelStatistics, request);
    require(response.model_stats_size() == 1, "expected the statistics of one model");
    const auto& one = response.model_stats(0);
    return {one.inference_count(), one.inference_stats().success().count()};
}

// One asynchronous ModelInfer.
struct Infer {
    grpc::ClientContext context;
    inference::ModelInferRequest request;
    inference::ModelInferResponse response;
    grpc::Status status;
    std::unique_ptr<grpc::ClientAsyncResponseReader<inference::ModelInferResponse>> reader;
};

// Have rows of so many features scored in several requests at once, and give the scores as bytes, in the rows' order.
std::string infer(Stub& stub, const std::string& model, const std::string& input, const std::string& output,
                  const std::string& rows, int64_t n_features, int64_t n_requests) {
    const int64_t row_bytes = n_features * sizeof(float), n_rows = rows.size() / row_bytes;
    require(n_rows * row_bytes == static_cast<int64_t>(rows.size()), "the input is no whole number of events");
    grpc::CompletionQueue queue;
    std::vector<std::unique_ptr<Infer>> calls;
    for (int64_t part = 0; part < n_requests; ++part) {
        const int64_t from = n_rows * part / n_requests, to = n_rows * (part + 1) / n_requests;
        auto one = std::make_unique<Infer>();
        one->context.set_deadline(std::chrono::system_clock::now() + timeout);
        one->request.set_model_name(model);
        one->request.set_id(std::to_string(part));
        auto* tensor = one->request.add_inputs();
        tensor->set_name(input);
        tensor->set_datatype("FP32");
        tensor->add_shape(to - from);
        tensor->add_shape(n_features);
        one->request.add_outputs()->set_name(output);
        one->request.add_raw_input_contents(rows.substr(from * row_bytes, (to - from) * row_bytes));
        one->reader = stub.PrepareAsyncModelInfer(&one->context, one->request, &queue);
        one->reader->StartCall();
        one->reader->Finish(&one->response, &one->status, one.get());
        calls.push_back(std::move(one));
    }
    void* tag;
    bool ok;
    for (size_t ended = 0; ended < calls.size(); ++ended) require(queue.Next(&tag, &ok) && ok, "a call did not end");
    std::string scores;
    for (const auto& one : calls) {
        require(one->status.ok(), "ModelInfer: " + one->status.error_message());
        const auto& response = one->response;
        require(response.id() == one->request.id(), "the response has another id");
        require(response.outputs_size() == 1 && response.raw_output_contents_size() == 1, "expected one raw output");
        const auto& tensor = response.outputs(0);
        require(tensor.name() == output && tensor.datatype() == "FP32", "expected the output " + output + " in FP32");
        require(tensor.shape(0) == one->request.inputs(0).shape(0), "expected a score for each event");
        scores += response.raw_output_contents(0);
    }
    return scores;
}

std::string score(const std::string& model, int64_t n_requests, const std::vector<std::string>& addresses) {
    auto stub = find_server(model, addresses);
    inference::ModelConfigRequest config_request;
    config_request.set_name(model);
    const auto config = call(*stub, &Stub::ModelConfig, config_request).config();
    require(config.max_batch_size() > 0, "max_batch_size is 0: the model takes no batches");
    inference::ModelMetadataRequest metadata_request;
    metadata_request.set_name(model);
    const auto metadata = call(*stub, &Stub::ModelMetadata, metadata_request);
    require(metadata.inputs_size() == 1 && metadata.outputs_size() == 1, "expected one input and one output");
    const auto& input = metadata.inputs(0);
    require(input.datatype() == "FP32" && input.shape_size() == 2 && input.shape(0) == -1, "expected FP32 (-1, n)");
    require(config.input(0).dims_size() == 1 && config.input(0).dims(0) == input.shape(1),
            "the configuration and the metadata differ in the number of features");
    const std::string rows{std::istreambuf_iterator<char>(std::cin), {}};
    const auto before = counts(*stub, model);
    const auto scores = infer(*stub, model, input.name(), metadata.outputs(0).name(), rows, input.shape(1), n_requests);
    const auto after = counts(*stub, model);
    require(after.first - before.first == scores.size() / sizeof(float), "the statistics have another number of events");
    require(after.second - before.second == static_cast<uint64_t>(n_requests), "they have another number of requests");
    return scores;
}

int main(int argc, char** argv) {
    try {
        require(argc > 3, "usage: cms MODEL REQUESTS ADDRESS...");
        std::cout << score(argv[1], std::stoll(argv[2]), {argv + 3, argv + argc});
    } catch (const std::exception& error) {
        std::cerr << "error: " << error.what() << "\n";
        return 1;
    }
}
