// The handlers that the conformance suite asks for; yours look the same.
// A handler gets the work message, with every parent's result in `results`, and `signal`, which says when to stop.
export const handlers = {
  echo: async ({ input }) => input,
  gather: async ({ results }) => results.big,
  wait: ({ signal }) => new Promise((_, stopped) => signal.addEventListener("abort", stopped)),
  fail: async ({ input }) => {
    throw Object.assign(new Error(input.message), { retryable: input.retryable, retryAfterS: input.retry_after_s });
  },
};
