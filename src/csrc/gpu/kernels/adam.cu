// The update of weights that are trained in 16 bits, and the check of their gradients (gpu/adam.h).

// The number of weights that one launch updates at most.
constexpr int MAX_WEIGHTS = 32;

// For each weight the pointers to its tensors, and the number of lanes up to its end.
struct Weights {
  Floats* master[MAX_WEIGHTS];
  const Lane* gradient[MAX_WEIGHTS];
  Floats* exp_avg[MAX_WEIGHTS];
  Floats* exp_avg_sq[MAX_WEIGHTS];
  Lane* working[MAX_WEIGHTS];
  unsigned end[MAX_WEIGHTS];
};

struct AdamOptions {
  double learning_rate, beta1, beta2, epsilon, weight_decay;
};

// One step of Adam for `count` lanes, unless *found_inf is not 0. `step` is the 1-based step number.
extern "C" __global__ void adam(Weights weights, const float* step, const float* found_inf, const float* inverse_scale,
                                unsigned count, AdamOptions options) {
  // 1 - beta^step needs 64 bits, because it subtracts numbers near 1. One thread of the block computes it.
  __shared__ float step_size, root;
  if (*found_inf != 0) return;
  if (threadIdx.x == 0) {
    step_size = static_cast<float>(options.learning_rate / (1 - pow(options.beta1, static_cast<double>(*step))));
    root = static_cast<float>(sqrt(1 - pow(options.beta2, static_cast<double>(*step))));
  }
  __syncthreads();
  const float unscale = *inverse_scale, decay = static_cast<float>(options.weight_decay),
              epsilon = static_cast<float>(options.epsilon);
  const float beta1 = static_cast<float>(options.beta1), beta2 = static_cast<float>(options.beta2);
  const float rest1 = static_cast<float>(1 - options.beta1), rest2 = static_cast<float>(1 - options.beta2);
  unsigned weight = 0, start = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    // The lanes of a thread only go up, so the search for the weight goes on where it was.
    while (i >= weights.end[weight]) start = weights.end[weight++];
    const unsigned lane = i - start;
    const Lane gradient = weights.gradient[weight][lane];
    Floats master = weights.master[weight][lane], m = weights.exp_avg[weight][lane],
           v = weights.exp_avg_sq[weight][lane];
    Lane working;
#pragma unroll
    for (int c = 0; c < WIDTH; c++) {
      const float g = to_float(gradient.value[c]) * unscale + master.value[c] * decay;
      m.value[c] = m.value[c] * beta1 + g * rest1;
      v.value[c] = v.value[c] * beta2 + g * g * rest2;
      master.value[c] -= step_size * m.value[c] / (sqrtf(v.value[c]) / root + epsilon);
      working.value[c] = from_float(master.value[c]);
    }
    weights.master[weight][lane] = master;
    weights.exp_avg[weight][lane] = m;
    weights.exp_avg_sq[weight][lane] = v;
    weights.working[weight][lane] = working;
  }
}

// For each gradient its pointer, and the number of lanes up to its end.
struct Gradients {
  const Lane* gradient[MAX_WEIGHTS];
  unsigned end[MAX_WEIGHTS];
};

// *found = 1 if one of `count` lanes holds an infinity or NaN. Nothing else is written.
extern "C" __global__ void note_not_finite(Gradients gradients, unsigned count, float* found) {
  bool is_bad = false;
  unsigned weight = 0, start = 0;
  for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) {
    while (i >= gradients.end[weight]) start = gradients.end[weight++];
    const Lane gradient = gradients.gradient[weight][i - start];
#pragma unroll
    for (int c = 0; c < WIDTH; c++) {
      const float value = to_float(gradient.value[c]);
      is_bad |= value - value != 0;
    }
  }
  // All threads that write, write the same.
  if (is_bad) *found = 1;
}
