// Computes PReLU in float32 on every CPU: y = x > 0 ? x : a x, with one slope a for each channel or one for all channels
// (He et al., arXiv 1502.01852, equation 1). prelu_library.py compiles it with the lib_api.h of MXNet's wheel.

#include <mxnet/lib_api.h>

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

using mxnet::ext::MX_FAIL;
using mxnet::ext::MX_SUCCESS;
using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
using mxnet::ext::OpResource;
using Attributes = const std::unordered_map<std::string, std::string>&;
using Tensors = std::vector<MXTensor>;
using Shapes = std::vector<std::vector<unsigned int>>;

// Treats an array N x C x ... as planes: plane p = n * channels + c holds `area` consecutive values.
struct Planes {
  explicit Planes(const MXTensor& x) : batch(x.shape[0]), channels(x.shape[1]), area(1) {
    for (std::size_t i = 2; i < x.shape.size(); ++i) area *= x.shape[i];
  }
  int64_t batch, channels, area;
};

MXReturnValue parse_attributes(Attributes, int* inputs, int* outputs) {
  *inputs = 2;
  *outputs = 1;
  return MX_SUCCESS;
}

MXReturnValue infer_type(Attributes, std::vector<int>* inputs, std::vector<int>* outputs) {
  for (int& type : *inputs) {
    if (type != -1 && type != mxnet::ext::kFloat32) {
      MX_ERROR_MSG << "the compiled PReLU computes in float32 only; bind the original symbol, not the rewritten one";
      return MX_FAIL;
    }
    type = mxnet::ext::kFloat32;
  }
  (*outputs)[0] = mxnet::ext::kFloat32;
  return MX_SUCCESS;
}

MXReturnValue infer_shape(Attributes, Shapes* inputs, Shapes* outputs) {
  const auto& data = (*inputs)[0];
  auto& slope = (*inputs)[1];
  if (data.size() < 2) {
    MX_ERROR_MSG << "PReLU needs data of two or more dimensions, N x C x ...";
    return MX_FAIL;
  }
  if (slope.empty()) slope = {data[1]};
  if (slope.size() != 1 || (slope[0] != data[1] && slope[0] != 1)) {
    MX_ERROR_MSG << "PReLU needs one slope for each of the " << data[1] << " channels, or one slope";
    return MX_FAIL;
  }
  (*outputs)[0] = data;
  return MX_SUCCESS;
}

// Computes y. inputs: x, a; outputs: y
MXReturnValue forward(Attributes, Tensors* inputs, Tensors* outputs, const OpResource&) {
  const Planes planes((*inputs)[0]);
  const float* x = (*inputs)[0].data<float>();
  const float* slopes = (*inputs)[1].data<float>();
  const bool shared = (*inputs)[1].shape[0] == 1;
  float* y = (*outputs)[0].data<float>();
#pragma omp parallel for
  for (int64_t plane = 0; plane < planes.batch * planes.channels; ++plane) {
    const float slope = slopes[shared ? 0 : plane % planes.channels];
    const int64_t end = (plane + 1) * planes.area;
    for (int64_t i = plane * planes.area; i < end; ++i) y[i] = x[i] > 0 ? x[i] : slope * x[i];
  }
  return MX_SUCCESS;
}

// Writes dx of one plane, and returns the plane's part of da: the sum of dy x where x <= 0.
float backward_plane(const float* dy, const float* x, float slope, float* dx, int64_t area) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < area; ++i) {
    dx[i] = x[i] > 0 ? dy[i] : slope * dy[i];
    sum += x[i] > 0 ? 0.f : dy[i] * x[i];
  }
  return sum;
}

// Computes the gradients. inputs: dy, x, a, y; outputs: dx, da. One thread sums a channel, plane after plane, so that
// every run gives the same bits.
MXReturnValue backward(Attributes, Tensors* inputs, Tensors* outputs, const OpResource&) {
  const Planes planes((*inputs)[1]);
  const float* dy = (*inputs)[0].data<float>();
  const float* x = (*inputs)[1].data<float>();
  const float* slopes = (*inputs)[2].data<float>();
  const bool shared = (*inputs)[2].shape[0] == 1;
  float* dx = (*outputs)[0].data<float>();
  std::vector<double> sums(planes.channels);
#pragma omp parallel for
  for (int64_t channel = 0; channel < planes.channels; ++channel) {
    const float slope = slopes[shared ? 0 : channel];
    for (int64_t n = 0; n < planes.batch; ++n) {
      const int64_t at = (n * planes.channels + channel) * planes.area;
      sums[channel] += backward_plane(dy + at, x + at, slope, dx + at, planes.area);
    }
  }
  float* da = (*outputs)[1].data<float>();
  if (shared) {
    double total = 0;
    for (const double sum : sums) total += sum;
    da[0] = static_cast<float>(total);
  } else {
    for (int64_t channel = 0; channel < planes.channels; ++channel) da[channel] = static_cast<float>(sums[channel]);
  }
  return MX_SUCCESS;
}

REGISTER_OP(_insightface_prelu)
    .setParseAttrs(parse_attributes)
    .setInferType(infer_type)
    .setInferShape(infer_shape)
    .setForward(forward, "cpu")
    .setBackward(backward, "cpu");

}  // namespace

MXReturnValue initialize(int) { return MX_SUCCESS; }
