export const open = () => ({});
