// The API key: in this tab's sessionStorage and nowhere else.
const NAME = "nearside-key";

export const storedKey = () => sessionStorage.getItem(NAME) ?? "";

export function storeKey(key) {
  if (key) sessionStorage.setItem(NAME, key);
  else sessionStorage.removeItem(NAME);
}

export const authorization = (key) => (key ? { authorization: `Bearer ${key}` } : {});
