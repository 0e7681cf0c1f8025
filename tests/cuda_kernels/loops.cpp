// Compares the CUDA kernels, run on the CPU, with plain loops that follow the kernels' descriptions.
#include "emulation.h"

#include <cstdio>
#include <limits>
#include <random>

static std::mt19937 generator(1);

// An image [n, h, w, c] in lanes. Element (i, y, x, k) is number ((i * h + y) * w + x) * c + k.
struct Image {
  int n, h, w, c;
  std::vector<Lane> lanes;
  Image(int n, int h, int w, int c) : n(n), h(h), w(w), c(c), lanes(n * h * w * c / WIDTH) {}
  Scalar& at(int i, int y, int x, int k) {
    const int place = ((i * h + y) * w + x) * c + k;
    return lanes[place / WIDTH].value[place % WIDTH];
  }
  float get(int i, int y, int x, int k) { return to_float(at(i, y, x, k)); }
  // Fills the image with few different values, many of them 0, as after a ReLU. With `nan` every 97th value is NaN.
  Image& random(bool nan = false) {
    std::uniform_int_distribution<int> number(-6, 9);
    int count = 0;
    for (Lane& lane : lanes)
      for (Scalar& x : lane.value)
        x = from_float(nan && ++count % 97 == 0 ? std::numeric_limits<float>::quiet_NaN()
                                                : std::max(0, number(generator)) * 0.37f);
    return *this;
  }
};

static int failures = 0;

void expect(const char* what, float found, float expected, float tolerance = 0) {
  if (std::isnan(found) == std::isnan(expected) && !(std::fabs(found - expected) > tolerance)) return;
  if (failures++ < 5) std::printf("%s: found %g, expected %g\n", what, found, expected);
}

float rounded(float x) { return to_float(from_float(x)); }

void check_bias_relu(int n, int h, int w, int c) {
  Image x = Image(n, h, w, c).random(true), skip = Image(n, h + 3, w + 2, c).random(), y(n, h, w, c),
        joined(n, h, w, 2 * c);
  std::vector<Floats> biases(c / WIDTH);
  const auto bias = [&](int k) -> float& { return biases[k / WIDTH].value[k % WIDTH]; };
  for (int k = 0; k < c; k++) bias(k) = 0.1f * (k % 13) - 1;
  const unsigned lanes = c / WIDTH, count = n * h * w * lanes;
  run(3, 1, bias_relu, x.lanes.data(), biases.data(), y.lanes.data(), count, lanes);
  // The crop of skip begins at row 2, column 1.
  run(2, 1, bias_relu_join, x.lanes.data(), biases.data(), skip.lanes.data() + (2 * (w + 2) + 1) * lanes,
      joined.lanes.data(), count, lanes, unsigned(h), unsigned(w), (h + 3) * (w + 2) * lanes, (w + 2) * lanes, lanes);
  for (int i = 0; i < n; i++)
    for (int row = 0; row < h; row++)
      for (int column = 0; column < w; column++)
        for (int k = 0; k < c; k++) {
          const float sum = x.get(i, row, column, k) + bias(k), expected = rounded(sum < 0 ? 0 : sum);
          expect("bias_relu", y.get(i, row, column, k), expected);
          expect("bias_relu_join", joined.get(i, row, column, k), expected);
          expect("the joined skip", joined.get(i, row, column, c + k), skip.get(i, row + 2, column + 1, k));
        }
}

void check_mask_and_sum(int n, int h, int w, int c, bool masked) {
  // gradient and y are the first half of the channels of larger tensors.
  Image gradient = Image(n, h, w, 2 * c).random(), y = Image(n, h, w, 2 * c).random(), out(n, h, w, c);
  const unsigned lanes = c / WIDTH, columns = std::min(lanes, 32u), stripes = (lanes + columns - 1) / columns,
                 slabs = 3;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> sums(slabs * c, nan), totals(c, nan);
  run(slabs, stripes, mask_and_sum, gradient.lanes.data(), 2 * lanes, masked ? y.lanes.data() : nullptr,
      masked ? 2 * lanes : 0, masked ? out.lanes.data() : nullptr, sums.data(), totals.data(), unsigned(n * h * w),
      lanes, columns);
  for (int k = 0; k < c; k++) {
    double expected = 0;
    for (int i = 0; i < n; i++)
      for (int row = 0; row < h; row++)
        for (int column = 0; column < w; column++) {
          const float g = masked && y.get(i, row, column, k) == 0 ? 0 : gradient.get(i, row, column, k);
          expected += g;
          if (masked) expect("mask_and_sum", out.get(i, row, column, k), g);
        }
    expect("the sum of mask_and_sum", totals[k], expected, 1e-4f * (1 + std::fabs(expected)));
  }
}

void check_first_layer(int n, int h, int w, int c) {
  std::vector<Scalar> x(n * (h + 2) * (w + 2));
  std::uniform_int_distribution<int> number(-9, 9);
  for (Scalar& value : x) value = from_float(number(generator) * 0.11f);
  std::vector<Floats> weights(9 * c / WIDTH), biases(c / WIDTH);
  const auto weight = [&](int tap, int k) -> float& { return weights[(tap * c + k) / WIDTH].value[k % WIDTH]; };
  for (int k = 0; k < c; k++) {
    biases[k / WIDTH].value[k % WIDTH] = 0.1f * (k % 5) - 0.2f;
    for (int tap = 0; tap < 9; tap++) weight(tap, k) = number(generator) * 0.07f;
  }
  const auto input = [&](int i, int row, int column) { return to_float(x[(i * (h + 2) + row) * (w + 2) + column]); };
  Image y(n, h, w, c), gradient = Image(n, h, w, c).random();
  const unsigned lanes = c / WIDTH, columns = std::min(lanes, 32u), stripes = (lanes + columns - 1) / columns,
                 slabs = 3;
  run(slabs, stripes, first_layer, x.data(), weights.data(), biases.data(), y.lanes.data(), unsigned(n * h * w), lanes,
      columns, unsigned(h), unsigned(w));
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> sums(slabs * 10 * c, nan), wide(9 * c, nan), bias(c, nan);
  std::vector<Scalar> narrow(9 * c);
  for (const bool is_narrow : {false, true})
    run(slabs, stripes, first_layer_gradient, gradient.lanes.data(), y.lanes.data(), x.data(), sums.data(),
        is_narrow ? nullptr : wide.data(), is_narrow ? narrow.data() : nullptr, bias.data(), unsigned(n * h * w), lanes,
        columns, unsigned(h), unsigned(w));
  for (int k = 0; k < c; k++) {
    double expected[10] = {};
    for (int i = 0; i < n; i++)
      for (int row = 0; row < h; row++)
        for (int column = 0; column < w; column++) {
          double sum = biases[k / WIDTH].value[k % WIDTH];
          for (int tap = 0; tap < 9; tap++) sum += double(weight(tap, k)) * input(i, row + tap / 3, column + tap % 3);
          // Rounding to bf16 changes a value by a 256th at most.
          expect("first_layer", y.get(i, row, column, k), sum < 0 ? 0 : sum, 1e-6 + std::fabs(sum) / 256);
          if (y.get(i, row, column, k) == 0) continue;
          const float g = gradient.get(i, row, column, k);
          for (int tap = 0; tap < 9; tap++) expected[tap] += g * input(i, row + tap / 3, column + tap % 3);
          expected[9] += g;
        }
    for (int tap = 0; tap < 10; tap++) {
      const float found = tap < 9 ? wide[k * 9 + tap] : bias[k];
      expect("first_layer_gradient", found, expected[tap], 1e-4f * (1 + std::fabs(expected[tap])));
      if (tap < 9) expect("first_layer_gradient in the dtype of x", to_float(narrow[k * 9 + tap]), rounded(found));
    }
  }
}

void check_head(int n, int h, int w, int c) {
  Image x = Image(n, h, w, c).random(), out(n, h, w, c);
  const unsigned pixels = n * h * w, lanes = c / WIDTH, columns = std::min(lanes, 32u),
                 stripes = (lanes + columns - 1) / columns, slabs = 3;
  std::vector<Floats> weights(2 * lanes);
  std::uniform_real_distribution<float> real(-1, 1);
  for (Floats& lane : weights)
    for (float& value : lane.value) value = real(generator);
  const auto weight = [&](int k, int channel) { return weights[(k * c + channel) / WIDTH].value[channel % WIDTH]; };
  const float bias[2] = {0.25f, -0.5f};
  std::vector<Pair> logits(pixels), gradient(pixels);
  for (Pair& pair : gradient) pair = {{from_float(real(generator)), from_float(real(generator))}};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> sums(slabs * 3 * c, nan), wide(2 * c, nan), bias_gradient(2, nan);
  std::vector<Scalar> narrow(2 * c);
  run(2, 1, head, x.lanes.data(), weights.data(), bias, logits.data(), pixels, lanes, columns);
  for (const bool is_narrow : {false, true})
    run(slabs, stripes, head_gradient, gradient.data(), x.lanes.data(), weights.data(), out.lanes.data(), sums.data(),
        is_narrow ? nullptr : wide.data(), is_narrow ? narrow.data() : nullptr, bias_gradient.data(), pixels, lanes,
        columns);
  std::vector<double> expected_sums(2 * c), expected_bias(2);
  for (unsigned pixel = 0; pixel < pixels; pixel++) {
    const auto value = [&](int channel) { return x.get(pixel / (h * w), pixel / w % h, pixel % w, channel); };
    for (int k = 0; k < 2; k++) {
      double expected = bias[k];
      for (int channel = 0; channel < c; channel++) expected += double(weight(k, channel)) * value(channel);
      expect("head", to_float(logits[pixel].value[k]), expected, 1e-4 + std::fabs(expected) / 256);
      expected_bias[k] += to_float(gradient[pixel].value[k]);
      for (int channel = 0; channel < c; channel++)
        expected_sums[k * c + channel] += double(to_float(gradient[pixel].value[k])) * value(channel);
    }
    for (int channel = 0; channel < c; channel++) {
      double expected = 0;
      for (int k = 0; k < 2; k++) expected += double(to_float(gradient[pixel].value[k])) * weight(k, channel);
      if (value(channel) == 0) expected = 0;
      expect("head_gradient", out.get(pixel / (h * w), pixel / w % h, pixel % w, channel), expected,
             1e-5 + std::fabs(expected) / 256);
    }
  }
  for (int i = 0; i < 2 * c; i++) {
    expect("head_gradient's weights", wide[i], expected_sums[i], 1e-4f * (1 + std::fabs(expected_sums[i])));
    expect("head_gradient's weights in the dtype of x", to_float(narrow[i]), rounded(wide[i]));
  }
  for (int k = 0; k < 2; k++) expect("head_gradient's bias", bias_gradient[k], expected_bias[k], 1e-4f * pixels);
}

// Computes both losses from their definitions, in fp64.
static void define_losses(const std::vector<double>& z, const std::vector<long long>& labels, int images,
                          double* losses) {
  const int pixels = labels.size() / images;
  double cross_entropy = 0, dice = 0;
  for (int image = 0; image < images; image++) {
    double overlap[2] = {}, size[2] = {};
    for (int i = image * pixels; i < (image + 1) * pixels; i++) {
      const double sum = std::exp(z[2 * i]) + std::exp(z[2 * i + 1]);
      cross_entropy -= z[2 * i + labels[i]] - std::log(sum);
      for (int c = 0; c < 2; c++) {
        const double p = std::exp(z[2 * i + c]) / sum, t = labels[i] == c;
        overlap[c] += p * t;
        size[c] += p * p + t;
      }
    }
    for (int c = 0; c < 2; c++) dice += (2 * overlap[c] + 1e-6) / (size[c] + 1e-6);
  }
  losses[0] = cross_entropy / labels.size();
  losses[1] = 1 - dice / (2 * images);
}

void check_loss(int images, unsigned pixels, bool one_class) {
  std::vector<Pair> logits(images * pixels), out(images * pixels);
  std::vector<long long> labels(images * pixels);
  std::uniform_real_distribution<float> real(-4, 4);
  std::vector<double> z;
  for (size_t i = 0; i < labels.size(); i++) {
    labels[i] = one_class ? 1 : generator() % 2;
    for (Scalar& value : logits[i].value) {
      value = from_float(real(generator));
      z.push_back(to_float(value));
    }
  }
  const unsigned blocks = 3;
  const float upstream[2] = {3, 0.5f};
  std::vector<float> sums(images * blocks * SUMS), totals(images * SUMS), losses(2), slopes(images * 4);
  run(blocks, images, loss_sums, logits.data(), labels.data(), sums.data(), pixels);
  run(1, 1, loss_finish, sums.data(), totals.data(), &losses[0], &losses[1], slopes.data(), unsigned(images), blocks,
      pixels, 1e-6);
  run(2, 1, loss_gradient, logits.data(), labels.data(), slopes.data(), &upstream[0], &upstream[1], out.data(),
      images * pixels, pixels);
  double expected[2];
  define_losses(z, labels, images, expected);
  expect("cross entropy", losses[0], expected[0], 1e-6 * (1 + expected[0]));
  expect("the Dice loss", losses[1], expected[1], 1e-6);
  for (size_t i = 0; i < z.size(); i++) {
    double sides[2];
    for (int side = 0; side < 2; side++) {
      std::vector<double> moved = z;
      moved[i] += side ? 1e-5 : -1e-5;
      double at[2];
      define_losses(moved, labels, images, at);
      sides[side] = upstream[0] * at[0] + upstream[1] * at[1];
    }
    const double slope = (sides[1] - sides[0]) / 2e-5;
    expect("loss_gradient", to_float(out[i / 2].value[i % 2]), slope, 1e-6 + std::fabs(slope) / 256);
  }
}

void check_adam(double step, float found_inf) {
  const int sizes[] = {3, 1, 7};  // lanes of each weight
  const AdamOptions options{1e-2, 0.9, 0.999, 1e-8, 5e-2};
  const float number = step, inverse_scale = 1.0f / 64;
  struct Values {
    std::vector<Floats> master, exp_avg, exp_avg_sq;
    std::vector<Lane> gradient, working;
  };
  std::vector<Values> given;
  std::uniform_real_distribution<float> real(-1, 1);
  for (const int lanes : sizes) {
    Values values{std::vector<Floats>(lanes), std::vector<Floats>(lanes), std::vector<Floats>(lanes),
                  std::vector<Lane>(lanes), std::vector<Lane>(lanes)};
    for (int i = 0; i < lanes * WIDTH; i++) {
      values.master[i / WIDTH].value[i % WIDTH] = real(generator);
      values.exp_avg[i / WIDTH].value[i % WIDTH] = 0.1f * real(generator);
      values.exp_avg_sq[i / WIDTH].value[i % WIDTH] = 0.01f * std::fabs(real(generator));
      values.gradient[i / WIDTH].value[i % WIDTH] = from_float(20 * real(generator));
      values.working[i / WIDTH].value[i % WIDTH] = from_float(7);
    }
    given.push_back(values);
  }
  std::vector<Values> found = given;
  Weights weights{};
  unsigned count = 0;
  for (size_t i = 0; i < found.size(); i++) {
    weights.master[i] = found[i].master.data();
    weights.gradient[i] = found[i].gradient.data();
    weights.exp_avg[i] = found[i].exp_avg.data();
    weights.exp_avg_sq[i] = found[i].exp_avg_sq.data();
    weights.working[i] = found[i].working.data();
    weights.end[i] = count += sizes[i];
  }
  run(2, 1, adam, weights, &number, &found_inf, &inverse_scale, count, options);
  for (size_t w = 0; w < given.size(); w++)
    for (int i = 0; i < sizes[w] * WIDTH; i++) {
      const auto of = [&](const std::vector<Floats>& list) -> double { return list[i / WIDTH].value[i % WIDTH]; };
      const double before = of(given[w].master), working = to_float(found[w].working[i / WIDTH].value[i % WIDTH]);
      if (found_inf != 0) {
        expect("a skipped weight", of(found[w].master), before);
        expect("a skipped copy", working, 7);
        continue;
      }
      const double g = to_float(given[w].gradient[i / WIDTH].value[i % WIDTH]) / 64.0 + before * options.weight_decay;
      const double m = 0.9 * of(given[w].exp_avg) + 0.1 * g, v = 0.999 * of(given[w].exp_avg_sq) + 0.001 * g * g;
      const double hat_m = m / (1 - std::pow(0.9, step)), hat_v = v / (1 - std::pow(0.999, step));
      const double after = before - options.learning_rate * hat_m / (std::sqrt(hat_v) + options.epsilon);
      expect("adam's first moment", of(found[w].exp_avg), m, 1e-6);
      expect("adam's second moment", of(found[w].exp_avg_sq), v, 1e-7);
      expect("adam's weight", of(found[w].master), after, 2e-6);
      expect("adam's copy", working, rounded(of(found[w].master)));
    }
}

// One value of some gradient is `bad`; on the boundaries of lanes and of gradients too.
void check_note_not_finite(float bad) {
  const unsigned sizes[] = {3, 1, 300};  // lanes of each gradient
  for (const int place : {0, WIDTH - 1, 3 * WIDTH, 4 * WIDTH, 303 * WIDTH, 304 * WIDTH - 1}) {
    std::vector<std::vector<Lane>> gradients;
    Gradients table{};
    unsigned count = 0;
    for (size_t i = 0; i < 3; i++) {
      gradients.emplace_back(sizes[i]);
      for (unsigned k = 0; k < sizes[i] * WIDTH; k++)
        gradients[i][k / WIDTH].value[k % WIDTH] = from_float(int(count) * WIDTH + int(k) == place ? bad : 3e38f);
      table.gradient[i] = gradients[i].data();
      table.end[i] = count += sizes[i];
    }
    float found = 0.25f;
    run(1, 1, note_not_finite, table, count, &found);
    expect("note_not_finite", found, std::isfinite(bad) ? 0.25f : 1);
  }
}

void check_pool(int n, int h, int w, int c, bool with_pooled, bool with_crop) {
  const int ch = h - 3, cw = w - 1, top = 1, left = 0;
  Image x = Image(n, h, w, c).random(true), pooled(n, h / 2, w / 2, c), out(n, h, w, c);
  // The crop's gradient is half of the channels of a larger tensor.
  Image above = Image(n, h / 2, w / 2, c).random(), crop = Image(n, ch, cw, 2 * c).random();
  const unsigned lanes = c / WIDTH, count = n * (h / 2) * (w / 2) * lanes, row_lanes = w / 2 * lanes;
  run(2, 1, max_pool, x.lanes.data(), pooled.lanes.data(), count, lanes, unsigned(h), unsigned(w));
  run(3, 1, pool_crop_gradient, x.lanes.data(), with_pooled ? above.lanes.data() : nullptr, h / 2 * row_lanes,
      row_lanes, lanes, with_crop ? crop.lanes.data() : nullptr, ch * cw * 2 * lanes, cw * 2 * lanes, 2 * lanes,
      out.lanes.data(), count, lanes, unsigned(h), unsigned(w), unsigned(top), unsigned(left), unsigned(ch),
      unsigned(cw));
  for (int i = 0; i < n; i++)
    for (int k = 0; k < c; k++)
      for (int row = 0; row < h; row++)
        for (int column = 0; column < w; column++) {
          const int y0 = row / 2 * 2, x0 = column / 2 * 2;
          // libtorch's rule: the last NaN wins; without a NaN, the first of the largest values.
          int best_y = y0, best_x = x0;
          for (int yy = y0; yy < y0 + 2; yy++)
            for (int xx = x0; xx < x0 + 2; xx++)
              if (std::isnan(x.get(i, yy, xx, k)) || x.get(i, yy, xx, k) > x.get(i, best_y, best_x, k))
                best_y = yy, best_x = xx;
          expect("max_pool", pooled.get(i, row / 2, column / 2, k), x.get(i, best_y, best_x, k));
          float g = 0;
          const int cy = row - top, cx = column - left;
          if (with_crop && cy >= 0 && cy < ch && cx >= 0 && cx < cw) g = crop.get(i, cy, cx, k);
          if (with_pooled && row == best_y && column == best_x) g = rounded(g + above.get(i, row / 2, column / 2, k));
          if (x.get(i, row, column, k) == 0) g = 0;
          expect("pool_crop_gradient", out.get(i, row, column, k), g);
        }
}

int main() {
  check_loss(2, 300, false);
  check_loss(1, 40, true);
  check_adam(1, 0);
  check_adam(1000, 0);
  check_adam(3, 1);
  for (const float value : {1.0f, INFINITY, -INFINITY, NAN}) check_note_not_finite(value);
  for (const int c : {8, 24, 64, 520}) {
    const int n = c > 100 ? 1 : 2;
    check_bias_relu(n, 5, 7, c);
    check_mask_and_sum(n, 5, 7, c, true);
    check_mask_and_sum(n, 3, 5, c, false);
    check_first_layer(n, 5, 7, c);
    check_head(n, 5, 7, c);
    check_pool(n, 6, 10, c, true, true);
    check_pool(1, 4, 6, c, true, false);
    check_pool(1, 4, 6, c, false, true);
  }
  if (failures) std::printf("%d values differ\n", failures);
  return failures ? 1 : 0;
}
